"""Best paths and Pareto fronts, against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Feasible, paths
from search_spaces.trellis import Terms, Trellis
from tests.search_spaces.helpers import PROPERTY, by_hand, cases, random_table


@PROPERTY
@given(cases(tables=2), st.floats(0.1, 1), st.booleans())
def test_front_is_the_brute_force_front(case, quantile, maximize):
    space, (cost, score), rng = case
    extra = random_table(space, rng, "extra", whole=True)
    everything = list(space)
    limit = int(np.quantile([by_hand(extra, s) for s in everything], quantile))
    fit = [s for s in everything if by_hand(extra, s) <= limit]
    sign = 1 if maximize else -1
    points = {(round(by_hand(cost, s), 9), round(sign * by_hand(score, s), 9)) for s in fit}
    front = {(a, b) for a, b in points if not any((c <= a and d > b) or (c < a and d >= b) for c, d in points)}
    found = Feasible(space, [(extra, limit)]).front(cost, score, maximize) if fit else []
    assert {(round(p.cost, 9), round(sign * p.score, 9)) for p in found} == front
    assert all(by_hand(cost, p.subnet) == pytest.approx(p.cost) for p in found)
    assert [p.cost for p in found] == sorted(p.cost for p in found)


@PROPERTY
@given(cases(tables=2), st.booleans())
def test_ranked_is_the_sorted_list_of_all(case, maximize):
    space, (score, limited), _ = case
    everything = list(itertools.islice(space, 20_000))
    limit = float(np.median([limited.of(s) for s in everything]))
    fit = [s for s in space if limited.of(s) <= limit]
    subnets = list(itertools.islice(Feasible(space, [(limited, limit)]).ranked(score, maximize), 500))
    assert len(set(subnets)) == len(subnets) == min(500, len(fit))
    values = sorted((by_hand(score, s) for s in fit), reverse=maximize)
    assert [by_hand(score, s) for s in subnets] == pytest.approx(values[: len(subnets)])


# -------------------------------------------------------------------- on arrays alone


def trellis_of(*sizes):
    """All paths, without limits."""
    return Trellis.build(0, 0, tuple(range(len(sizes))), sizes, [])


def test_paths_with_linked_layers_by_hand():
    """Values 0 0: 5, 0 1: 1, 1 0: 4, 1 1: 10."""
    linked = Terms(np.float64(0), [np.array([1.0, 3.0]), np.array([0.0, 0.0])], [np.array([[4.0, 0.0], [1.0, 7.0]])])
    made = trellis_of(2, 2)
    assert [choices for _, choices in paths.ranked([(made, linked)], 1)] == [(1, 1), (0, 0), (1, 0), (0, 1)]
    assert [choices for _, choices in paths.ranked([(made, linked)], -1)] == [(0, 1), (1, 0), (0, 0), (1, 1)]
    cost = Terms(np.int64(100), [np.array([0, 1]), np.array([0, 2])], [None])  # 100, 102, 101, 103
    points = [(choices, a, b) for _, choices, a, b in paths.front([(made, cost, linked)], 1)]
    assert points == [([0, 0], 100, 5.0), ([1, 1], 103, 10.0)]
    assert [type(a) for _, a, _ in points] == [int, int]


def test_ranked_is_lazy():
    """The best of 3^40 paths: the second and third replace the choice with the smallest loss."""
    rng = np.random.default_rng(0)
    layers = [rng.permutation([0.0, 10.0, 20.0]) for _ in range(40)]
    layers[7], layers[30] = np.array([20.0, 19.0, 0.0]), np.array([0.0, 18.0, 20.0])
    score = Terms(np.float64(1), layers, [None] * 39)
    found = itertools.islice(paths.ranked([(trellis_of(*[3] * 40), score)], 1), 4)
    best = tuple(int(layer.argmax()) for layer in layers)
    changed = [{i for i in range(40) if choices[i] != best[i]} for _, choices in found]
    assert changed == [set(), {7}, {30}, {7, 30}]


@pytest.mark.parametrize("seed", range(30))
def test_the_undominated_of_each_group(seed):
    rng = np.random.default_rng(seed)
    group, cost, score = (rng.integers(0, high, size=60) for high in (4, 8, 8))
    chosen = paths.undominated_by_group(group, cost, score)
    points = {(g, a, b) for g, a, b in zip(group, cost, score, strict=True)}
    expected = sorted(
        (g, a, b) for g, a, b in points
        if not any(h == g and c <= a and d >= b and (c, d) != (a, b) for h, c, d in points)
    )  # fmt: skip
    assert [(group[i], cost[i], score[i]) for i in chosen] == expected
