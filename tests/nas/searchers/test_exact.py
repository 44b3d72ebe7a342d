"""The exact searcher: finds the known optimum, where other searchers are still on their way."""

import numpy as np
import pytest

import nas
from evaluators.costs import params
from evaluators.scores import synthetic
from nas.testing.worlds import evaluation, params_of, tiny_space
from search_spaces import Feasible
from tests.spaces import COARSE

SPACE = COARSE
PARAMS = params(SPACE).table


@pytest.mark.parametrize("limit", [1_500_000, 2_500_000])
def test_the_optimum_of_an_additive_score_is_found_among_10_to_the_11(limit):
    score = synthetic(SPACE, seed=2)
    result = nas.search(SPACE, score, {"params": PARAMS}, (nas.Budget("params", limit),), "exact", evals=160, seed=0)
    assert result.best.subnet == PARAMS.best(score.table, limit)


def test_the_front_of_an_additive_score_is_nearly_found():
    space = tiny_space()
    cost, score = params_of(space), synthetic(space, seed=2)
    truth = cost.front(score.table)
    reference = (cost.range()[1] * 1.01, score.table.range()[0])
    whole = nas.hypervolume([p.cost for p in truth], [p.score for p in truth], reference)
    result = nas.search(space, score, {"params": cost}, (), "exact", evals=80, objectives=("score", "params"))
    found = nas.hypervolume([e.costs["params"] for e in result.front], [e.score for e in result.front], reference)
    assert found > 0.97 * whole


def test_the_design_has_nearly_every_choice_of_every_layer():
    made = nas.get_searcher("exact")(Feasible(SPACE), nas.Objective(), np.random.default_rng(0), 64)
    vectors = np.array([SPACE.encode(subnet) for subnet in made.ask(16)])
    assert sum(len(set(column) - {-1}) for column in vectors.T) >= 3 * vectors.shape[1] - 1


def test_a_front_against_a_measured_cost_is_searched_too():
    class Measured:
        of = staticmethod(lambda subnet: PARAMS.of(subnet) / 1e5)

    score = synthetic(SPACE, seed=2)
    result = nas.search(SPACE, score, {"latency_ms": Measured}, (), "exact", 60, objectives=("score", "latency_ms"))
    assert len(result.evaluations) == 60
    assert len(result.front) > 5


def test_it_learns_from_known_subnets_over_the_budget():
    """Nothing within the budget is known, and yet the best within it is proposed right after the design."""
    space = tiny_space()
    cost, score = params_of(space), synthetic(space, seed=2)
    feasible = Feasible(space, [(cost, 400_000)])
    over = [subnet for subnet in space if not feasible.contains(subnet)]
    known = [evaluation(i, s, value, status="ruled out") for i, (s, value) in enumerate(zip(over, score(over)))]
    made = nas.get_searcher("exact")(feasible, nas.Objective(), np.random.default_rng(0), 100)
    made.start_from(known)
    design = made.ask(16)
    shapes = len(space.embed_dims) * len(space.depths)
    assert feasible.best(score.table) in made.ask(shapes)
    assert len(design) == 8, "little is left to be learned"
    assert all(feasible.contains(subnet) for subnet in design)
