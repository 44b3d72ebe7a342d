"""The contracts of costs and scores: what ships passes them, what is broken does not."""

import itertools

import pytest

from evaluators import costs, scores
from nas.testing.checks import check_cost, check_score
from nas.testing.worlds import params_of, tiny_space
from search_spaces import get_space
from search_spaces.synthetic import SyntheticScore
from supernet import load_supernet

SPACE = tiny_space()
COUNTER = itertools.count()


@pytest.mark.parametrize("name", ["params", "macs", "memory_bytes"])
def test_the_exact_costs_that_ship_pass(name):
    space = get_space("lighthubert-small")
    check_cost(costs.get_cost(name, costs.CostContext(space)), space)


@pytest.mark.parametrize("name", ["distillation", "synthetic"])
def test_the_scores_that_ship_pass(name):
    model = load_supernet("hubert-tiny")
    check_score(scores.get_score(name, model), model.space)


def test_a_successive_score_passes():
    model = load_supernet("hubert-tiny")
    check_score(scores.get_score("distillation", model, successive=True), model.space)


class Cost:
    def __init__(self, of):
        self.of = of


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (lambda subnet: float("nan"), "is nan"),
        (lambda subnet: "3", "is no number"),
        (lambda subnet: next(COUNTER), "depends on the subnet alone"),
    ],
)
def test_broken_costs_do_not(of, message):
    with pytest.raises((AssertionError, TypeError), match=message):
        check_cost(Cost(of), SPACE)


def test_a_table_that_differs_from_its_cost_does_not():
    cost = Cost(lambda subnet: 3)
    cost.table = params_of(SPACE)
    with pytest.raises(AssertionError, match="equals the table"):
        check_cost(cost, SPACE)


class Score(SyntheticScore):
    def __init__(self, call, **attributes):
        super().__init__(SPACE)
        self.call = call
        vars(self).update(attributes)

    def __call__(self, subnets):
        return self.call(super().__call__(subnets))


def first_only(values):
    return values[:1]


def ranks(values):
    return [sorted(values).index(value) for value in values]


def nan(values):
    return [float("nan")] * len(values)


def same(values):
    return values


@pytest.mark.parametrize(("call", "message"), [(first_only, "scores; got 1"), (ranks, "size"), (nan, "nan")])
def test_broken_scores_do_not(call, message):
    with pytest.raises(AssertionError, match=message):
        check_score(Score(call), SPACE)


def test_settings_must_be_json():
    check_score(Score(same), SPACE)
    with pytest.raises(TypeError, match="not JSON serializable"):
        check_score(Score(same, settings={"a": {1, 2}}), SPACE)
