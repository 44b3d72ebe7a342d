"""Subnets to evaluations."""

from dataclasses import replace

import pytest

from nas.evaluate import SubnetEvaluator, utc_now
from nas.executors import LocalExecutor
from nas.problem import Problem
from nas.testing.worlds import Ruling, evaluation, params_of, tiny_space
from search_spaces import RunError
from search_spaces.synthetic import SyntheticScore

SPACE = tiny_space()
PARAMS = params_of(SPACE)
SCORE = SyntheticScore(SPACE)
SUBNETS = list(SPACE)[:6]


def evaluator(score=SCORE, costs=None, budgets=()):
    problem = Problem.of(SPACE, score, costs or {"params": PARAMS}, budgets, ("score",))
    return SubnetEvaluator(problem, LocalExecutor(score))


def test_evaluations_have_costs_scores_and_numbers():
    (chunk,) = evaluator().run(SUBNETS, 10, [])
    assert [e.index for e in chunk] == list(range(10, 16))
    assert [e.score for e in chunk] == SCORE(SUBNETS)
    assert [e.costs["params"] for e in chunk] == [PARAMS.of(subnet) for subnet in SUBNETS]
    assert all(e.status == "ok" and e.at <= utc_now() for e in chunk)


def test_subnets_over_a_measured_budget_or_without_a_cost_are_not_scored():
    class Depth:
        def of(self, subnet):
            if subnet == SUBNETS[1]:
                raise OSError("no device")
            return 99 if subnet == SUBNETS[0] else 1

    def score(subnets):
        assert not {SUBNETS[0], SUBNETS[1]} & set(subnets)
        return [0.0] * len(subnets)

    made = [e for chunk in evaluator(score, {"ms": Depth()}, ("ms<=5",)).run(SUBNETS, 0, []) for e in chunk]
    assert [e.subnet for e in made] == SUBNETS
    assert [e.status for e in made[:3]] == ["over budget", "failed", "ok"]
    assert made[1].error == "OSError: no device"


def test_successive_scores_compare_with_the_best_of_the_batches_before():
    score = Ruling(SCORE)
    (first,) = evaluator(score).run(SUBNETS[:3], 0, [])
    (second,) = evaluator(score).run(SUBNETS[3:], 3, first)
    best = max(e.score for e in first)
    assert [e.status for e in second] == ["ruled out" if s < best else "ok" for s in SCORE(SUBNETS[3:])]


def test_evaluations_from_elsewhere_get_costs_and_cannot_win_over_a_budget():
    class Broken:
        def of(self, subnet):
            raise OSError("no device")

    dear = max(SUBNETS, key=PARAMS.of)
    given = [evaluation(7, subnet, 0.5, params=0) for subnet in (SUBNETS[0], dear)]
    made = evaluator(budgets=(f"params<={PARAMS.of(dear) - 1}",)).imported([replace(e, origin="there") for e in given])
    assert [(e.index, e.status, e.score, e.origin) for e in made] == [
        (0, "ok", 0.5, "there"),
        (1, "ruled out", 0.5, "there"),
    ]
    assert [e.costs["params"] for e in made] == [PARAMS.of(SUBNETS[0]), PARAMS.of(dear)]
    (failed,) = evaluator(costs={"ms": Broken()}).imported(given[:1])
    assert (failed.status, failed.score, failed.error) == ("failed", None, "OSError: no device")


def test_a_replay_of_something_else_is_refused():
    (chunk,) = evaluator().run(SUBNETS[:1], 0, [])
    evaluator().check_replay(SUBNETS[0], chunk[0])
    with pytest.raises(RunError, match="should be of subnet"):
        evaluator().check_replay(SUBNETS[1], chunk[0])
    with pytest.raises(RunError, match="the cost changed"):
        evaluator(costs={"macs": PARAMS}).check_replay(SUBNETS[0], chunk[0])
