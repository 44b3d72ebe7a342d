from __future__ import annotations

import numpy as np
import pytest

from nas import hypervolume, pareto
from nas.testing.worlds import evaluation, tiny_space


def brute_force(costs, scores):
    """Points that no other beats: at least as good in both, better in one."""
    points = list(zip(costs, scores))
    return {
        (a, b) for a, b in points if not any((c <= a and s >= b) and (c < a or s > b) for c, s in points)
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_undominated_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    costs, scores = rng.integers(0, 8, 30).tolist(), rng.integers(0, 8, 30).tolist()
    chosen = pareto.undominated(costs, scores)
    assert {(costs[i], scores[i]) for i in chosen} == brute_force(costs, scores)
    assert [costs[i] for i in chosen] == sorted({costs[i] for i in chosen})
    lower = pareto.undominated(costs, [-score for score in scores], maximize=False)
    assert lower == chosen


def test_nothing_has_an_empty_front():
    assert pareto.undominated([], []) == []
    assert pareto.front([], "params") == []
    assert pareto.select([], [], 3) == []
    assert hypervolume([], [], (1.0, 0.0)) == 0.0


def test_front_leaves_out_what_has_no_score():
    subnets = list(tiny_space())[:4]
    evaluations = [
        evaluation(0, subnets[0], 0.5, 10),
        evaluation(1, subnets[1], None, 1, status="failed", error="NaN"),
        evaluation(2, subnets[2], 0.4, 20),
        evaluation(3, subnets[3], 0.7, 30),
    ]
    assert [e.index for e in pareto.front(evaluations, "params")] == [0, 3]
    assert [e.index for e in pareto.front(evaluations, "params", maximize=False)] == [0, 2]


def test_select_takes_whole_ranks_then_the_loneliest():
    costs, scores = [1, 2, 3, 4, 9, 5], [1, 2, 3, 4, 9, 0]  # five on the front, one behind
    assert set(pareto.select(costs, scores, 5)) == {0, 1, 2, 3, 4}
    assert set(pareto.select(costs, scores, 3)) == {0, 4, 3}  # both ends, then the one beside the gap
    assert len(pareto.select(costs, scores, 6)) == len(pareto.select(costs, scores, 99)) == 6


def test_hypervolume_is_the_area_of_the_staircase():
    # boxes up to the reference (10, 0): [2, 10] x [0, 1] and [5, 10] x [1, 3]
    assert hypervolume([2, 5, 6, 12], [1, 3, 2, 9], (10, 0)) == 8 * 1 + 5 * 2
    assert hypervolume([2, 5], [-1, -3], (10, 0), maximize=False) == 8 * 1 + 5 * 2


@pytest.mark.parametrize("seed", range(5))
def test_hypervolume_equals_counting_cells(seed):
    rng = np.random.default_rng(seed)
    costs, scores = rng.integers(0, 12, 15), rng.integers(-2, 10, 15)
    cells = sum(any(c <= x and s >= y + 1 for c, s in zip(costs, scores)) for x in range(10) for y in range(10))
    assert hypervolume(costs, scores, (10, 0)) == cells


@pytest.mark.parametrize("seed", range(10))
def test_what_gains_most_is_what_adds_most_hypervolume(seed):
    rng = np.random.default_rng(seed)
    known, points, reference = rng.random((2, 5)), rng.random((2, 12)), (0.9, 0.1)

    def added(chosen):
        return hypervolume(*np.hstack([known, points[:, chosen]]), reference)

    chosen = pareto.most_gaining(tuple(points), tuple(known), reference, 4)
    for k, i in enumerate(chosen):
        assert added([*chosen[:k], i]) == pytest.approx(max(added([*chosen[:k], j]) for j in range(12)))
        assert added([*chosen[:k], i]) > added(chosen[:k])
    if len(chosen) < 4:
        assert all(added([*chosen, j]) == pytest.approx(added(chosen)) for j in range(12))
