"""Objectives, the best and the front."""

import pytest

from nas.objective import Objective, best_and_front, hypervolume_of
from nas.testing.worlds import evaluation, params_of, tiny_space
from search_spaces import Budget, NasError

SUBNETS = list(tiny_space())[:4]
EVALUATIONS = [
    evaluation(0, SUBNETS[0], 1.0, params=10),
    evaluation(1, SUBNETS[1], 3.0, params=30),
    evaluation(2, SUBNETS[2], 2.0, params=40),
    evaluation(3, SUBNETS[3], 9.0, params=5, status="ruled out"),
]


def test_objectives_are_a_score_and_at_most_one_cost():
    table = params_of(tiny_space())
    assert Objective.parse(("score",), True, ["params"], {}) == Objective()
    parsed = Objective.parse(("score", "params"), False, ["params"], {"params": table})
    assert (parsed.maximize, parsed.cost, parsed.table) == (False, "params", table)
    assert parsed.names == ("score", "params")
    for names in ((), ("params",), ("score", "params", "macs"), "score"):
        with pytest.raises(NasError, match="objectives must be"):
            Objective.parse(names, True, ["params"], {})
    with pytest.raises(NasError, match="unknown cost 'beauty' in objectives; known here: params"):
        Objective.parse(("score", "beauty"), True, ["params"], {})


def test_the_best_keeps_its_budgets_and_is_the_first_of_equals():
    assert Objective().best(EVALUATIONS) is EVALUATIONS[1]
    assert Objective(maximize=False).best(EVALUATIONS) is EVALUATIONS[0]
    assert Objective().best(EVALUATIONS[3:]) is None
    twins = [EVALUATIONS[1], evaluation(1, SUBNETS[0], 3.0)]
    assert Objective().best(twins) is twins[0]


def test_the_front_and_its_hypervolume_by_hand():
    best, front = best_and_front(EVALUATIONS, Objective(), "params")
    assert best is EVALUATIONS[1]
    assert front == EVALUATIONS[:2]
    assert best_and_front(EVALUATIONS, Objective(), None) == (best, [best])
    volume = hypervolume_of(EVALUATIONS, Objective(), "params", [Budget("params", 40)])
    assert volume == {"value": (40 - 30) * (3.0 - 1.0), "reference": {"cost": 40.0, "score": 1.0}}
    assert hypervolume_of(EVALUATIONS, Objective(), None, []) is None
    assert hypervolume_of([], Objective(), "params", []) is None
