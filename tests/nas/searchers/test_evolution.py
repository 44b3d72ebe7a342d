from __future__ import annotations

import statistics

import numpy as np
import pytest

import nas
from evaluators.scores import synthetic
from nas import Objective, get_searcher
from nas.testing.worlds import evaluation, params_of, tiny_space
from search_spaces import Feasible, get_space


@pytest.mark.parametrize("interactions", [0.0, 0.3])
@pytest.mark.parametrize("searcher", ["evolution", "nsga2", "local"])
def test_it_beats_random_under_equal_evaluations(searcher, interactions, without_uniform):
    space = get_space("hubert-tiny")
    params = params_of(space)
    low, high = params.range()
    budget = nas.Budget("params", low + (high - low) // 3)
    gains = []
    for seed in range(7):
        score = synthetic(space, seed=seed, interactions=interactions)
        best = {
            name: nas.search(space, score, {"params": params}, [budget], name, evals=192, seed=seed).best.score
            for name in ("random", searcher)
        }
        gains.append(best[searcher] - best["random"])
    assert statistics.median(gains) > 0.02
    assert sum(gain > 0 for gain in gains) >= 6


@pytest.mark.parametrize("searcher", ["evolution", "nsga2"])
def test_a_front_search_covers_more_than_random(searcher):
    space = get_space("hubert-tiny")
    params = params_of(space)
    high = params.range()[1]
    gains = []
    for seed in range(5):
        score = synthetic(space, seed=seed)
        worst = score.table.range()[0]
        areas = {}
        for name in ("random", searcher):
            result = nas.search(
                space, score, {"params": params}, searcher=name, evals=192, seed=seed, objectives=("score", "params")
            )
            points = [(e.costs["params"], e.score) for e in result.front]
            areas[name] = nas.hypervolume(*zip(*points), reference=(high, worst))
        gains.append(areas[searcher] / areas["random"])
    assert statistics.median(gains) > 1.05


def test_children_come_from_the_best():
    space = tiny_space()
    made = get_searcher("evolution")(Feasible(space), Objective(), np.random.default_rng(0), 400)
    first = made.ask(50)
    made.tell([evaluation(i, s, float(s.embed_dim == 192 and s.depth == 3)) for i, s in enumerate(first)])
    children = made.ask(60)
    assert sum(s.embed_dim == 192 and s.depth == 3 for s in children) > 40
