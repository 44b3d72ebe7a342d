"""Search problems, checked."""

import pytest

from nas.problem import Costs, Problem, ScoreInfo
from nas.testing.worlds import Ruling, params_of, tiny_space
from search_spaces import Budget, InfeasibleError, NasError, SpaceError
from search_spaces.synthetic import SyntheticScore

SPACE = tiny_space()
PARAMS = params_of(SPACE)
SCORE = SyntheticScore(SPACE)


class Milliseconds:
    def of(self, subnet):
        return subnet.depth / 2


def constant(subnets):
    return [1.0] * len(subnets)


def test_scores_describe_themselves_as_far_as_they_can():
    assert ScoreInfo.of(constant).to_dict() == {"name": "constant"}
    assert ScoreInfo.of(constant).higher_is_better
    assert ScoreInfo.of(SCORE).to_dict() == {"name": "synthetic", "seed": 0, "noise": 0.0, "interactions": 0.0}
    with pytest.raises(NasError, match="score must be a function"):
        ScoreInfo.of("distillation")


def test_costs_are_tables_or_measured():
    costs = Costs(SPACE, {"ms": Milliseconds(), "params": PARAMS})
    assert costs.names == ("ms", "params")
    assert costs.of(SPACE.largest) == {"ms": 1.5, "params": PARAMS.of(SPACE.largest)}
    assert costs.of_tables(SPACE.largest) == {"params": PARAMS.of(SPACE.largest)}
    assert costs.predicted == {}
    with pytest.raises(NasError, match=r"cost 'x' must be an AdditiveTable or have .of\(subnet\); got int"):
        Costs(SPACE, {"x": 3})
    with pytest.raises(NasError, match="costs must map names to costs"):
        Costs(SPACE, [PARAMS])
    with pytest.raises(SpaceError, match="cost 'params' is of space"):
        Costs(tiny_space((2, 4)), {"params": PARAMS})


def test_a_measured_cost_that_is_not_finite_is_an_error():
    class Broken:
        def of(self, subnet):
            return float("inf")

    with pytest.raises(ValueError, match="ms is inf"):
        Costs(SPACE, {"ms": Broken()}).of(SPACE.largest)


def test_problems_are_checked():
    made = Problem.of(SPACE, SCORE, {"params": PARAMS}, ["params<=400K", Budget("params", 300_000)], ("score",))
    assert made.budgets == (Budget("params", 400_000), Budget("params", 300_000))
    assert made.feasible.limits == ((PARAMS, 300_000),)
    assert made.front_cost == "params"
    for arguments, error, message in (
        (("x", SCORE, {}, (), ("score",)), SpaceError, "unknown space 'x'"),
        ((SPACE, SCORE, {}, "params<=3", ("score",)), NasError, "budgets must be a tuple"),
        ((SPACE, SCORE, {}, ("watts<=3",), ("score",)), NasError, "unknown cost 'watts'"),
        ((SPACE, SCORE, {"params": PARAMS}, ("params<=3",), ("score",)), InfeasibleError, "the smallest has"),
        ((SPACE, Ruling(SCORE), {"params": PARAMS}, (), ("score", "params")), NasError, "objective score alone"),
    ):
        with pytest.raises(error, match=message):
            Problem.of(*arguments)
