"""Non-dominated sets of two objectives, a cost that is minimised and a score; and their hypervolume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas.runs.ledger import Evaluation
from search_spaces.types import Array

__all__ = ["front", "hypervolume", "most_gaining", "select", "undominated"]


def front(evaluations: Sequence[Evaluation], cost: str, maximize: bool = True) -> list[Evaluation]:
    """The evaluations that no other beats in both `cost` and score, in rising order of cost.

    Only those with status "ok". Of several equal in both, the first.
    """
    ok = [evaluation for evaluation in evaluations if evaluation.ok]
    return [ok[i] for i in undominated(*_objectives(ok, cost), maximize)]


def undominated(costs: npt.ArrayLike, scores: npt.ArrayLike, maximize: bool = True) -> list[int]:
    """Indices of the non-dominated points, in rising order of cost; of equal points the first."""
    a, b = np.asarray(costs, dtype=float), _rising(scores, maximize)
    order = np.lexsort((-b, a))
    best = np.maximum.accumulate(b[order])
    keep = np.append(True, best[1:] > best[:-1])[: len(order)]
    return [int(i) for i in order[keep]]


def select(costs: npt.ArrayLike, scores: npt.ArrayLike, k: int, maximize: bool = True) -> list[int]:
    """Indices of `k` points by non-dominated rank, then crowding distance (NSGA-II; Deb et al. 2002, III.B)."""
    a, b = np.asarray(costs, dtype=float), np.asarray(scores, dtype=float)
    left = np.arange(len(a))
    chosen: list[int] = []
    while len(chosen) < k and len(left):
        rank = left[undominated(a[left], b[left], maximize)]
        by_crowding = np.argsort(-_crowding(a[rank], b[rank]), kind="stable")
        chosen += [int(i) for i in rank[by_crowding]]
        left = np.setdiff1d(left, rank, assume_unique=True)
    return chosen[:k]


def hypervolume(
    costs: npt.ArrayLike, scores: npt.ArrayLike, reference: tuple[float, float], maximize: bool = True
) -> float:
    """The area between the front and `reference` (cost, score), the worst point that still counts.

    In units of cost times score. Points that do not beat the reference in both add nothing.
    """
    a, b = np.asarray(costs, dtype=float), _rising(scores, maximize)
    worst = reference[1] if maximize else -reference[1]
    counts = (a < reference[0]) & (b > worst)
    a, b = a[counts], b[counts]
    area, floor = 0.0, worst
    for i in undominated(a, b):
        area += (reference[0] - a[i]) * (b[i] - floor)
        floor = b[i]
    return float(area)


def most_gaining(
    points: tuple[Array, Array], known: tuple[Array, Array], reference: tuple[float, float], k: int
) -> list[int]:
    """Indices of up to `k` points that add most hypervolume to the `known`, chosen greedily; fewer if the rest add
    nothing.

    Both are costs and scores, to minimise and to maximise; there is at least one point.
    """
    (costs, scores), (a, b) = points, known
    chosen: list[int] = []
    while len(chosen) < k:
        stairs = undominated(a, b)
        a, b = a[stairs], b[stairs]
        starts, ends = np.append(-np.inf, a), np.append(a, reference[0])
        floors = np.maximum(np.append(reference[1], b), reference[1])
        widths = np.maximum(0, ends - np.maximum(starts, costs[:, None]))
        gains = (widths * np.maximum(0, scores[:, None] - floors)).sum(1)
        best = int(gains.argmax())
        if gains[best] <= 0:
            break
        chosen.append(best)
        a, b = np.append(a, costs[best]), np.append(b, scores[best])
    return chosen


def _objectives(evaluations: Sequence[Evaluation], cost: str) -> tuple[list[float], list[float]]:
    return [float(e.costs[cost]) for e in evaluations], [float(e.score) for e in evaluations if e.score is not None]


def _rising(scores: npt.ArrayLike, maximize: bool) -> Array:
    return np.asarray(scores, dtype=float) * (1.0 if maximize else -1.0)


def _crowding(a: Array, b: Array) -> Array:
    """Of one front in rising order of cost: the normalised sides of the box between each point's neighbours."""
    distance = np.zeros(len(a))
    for values in (a, b):
        distance[1:-1] += np.abs(values[2:] - values[:-2]) / (float(np.ptp(values)) or 1.0)
    distance[[0, -1]] = np.inf
    return distance
