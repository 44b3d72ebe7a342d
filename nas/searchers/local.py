"""Local search: steps to better neighbours, and a restart if there is none.

A climb starts from a batch of uniform draws. Its members are the best it has seen or, with a cost to minimise, its
front (Pareto local search; Paquete et al. 2004); what is proposed are neighbours of members. A better neighbour
replaces what it beats as soon as it is told. When every neighbour of every member was proposed, the climb has ended
at a local optimum, and another starts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nas import pareto
from nas.objective import Objective
from nas.searchers.base import Searcher
from nas.searchers.repair import repaired
from search_spaces import Feasible, Space, Subnet

__all__ = ["LocalSearcher"]

_LAYERS = 2  # their offset in the vectors of `Space.encode`, after embed dim and depth
Move = tuple[tuple[int, int], ...]
Vector = npt.NDArray[np.int64]


class LocalSearcher(Searcher):
    """Neighbours are one step away: one choice one step up or down, or one layer's up and another's down.

    Steps over a budget are repaired; at its edge the exchanges are what is left to try.
    """

    def __init__(self, feasible: Feasible, objective: Objective, rng: np.random.Generator, evals: int) -> None:
        super().__init__(feasible, objective, rng, evals)
        self._start = 0  # evaluations before this one belong to earlier climbs
        self._left: dict[Subnet, Iterator[Subnet]] = {}

    def ask(self, n: int) -> list[Subnet]:
        subnets = self._steps(n)
        if not subnets:
            self._start = len(self.seen)
        return subnets + self.draw(n - len(subnets))

    def _steps(self, n: int) -> list[Subnet]:
        """Up to `n` new neighbours, each of a member drawn at random."""
        subnets: list[Subnet] = []
        members = self._members()
        while members and len(subnets) < n:
            member = members[int(self.rng.integers(len(members)))]
            left = self._left.setdefault(member, _neighbours(self.feasible, member, self.rng))
            new = next(filter(self.take, left), None)
            if new:
                subnets.append(new)
            else:
                members.remove(member)
        return subnets

    def _members(self) -> list[Subnet]:
        """Whose neighbours this climb tries."""
        climb = self.told[self._start :]
        if self.objective.cost:
            return [e.subnet for e in pareto.front(climb, self.objective.cost, self.objective.maximize)]
        return [best.subnet for best in self.objective.parents(climb, 1)]


def _neighbours(feasible: Feasible, subnet: Subnet, rng: np.random.Generator) -> Iterator[Subnet]:
    """Every neighbour, repaired: steps of embed dim and depth, then of layers, then exchanges; each in random order.

    Exchanges are hundreds, and spread a front least: all in one random order, fronts after 192 evaluations of
    hubert-tiny were worth 0.73 of the true one's hypervolume, and are worth 0.81 in this order. Layers that are new
    to a deeper neighbour are drawn.
    """
    space, vector = feasible.space, feasible.space.encode(subnet)
    moves = _moves(space, vector)
    for i in sorted(rng.permutation(len(moves)).tolist(), key=lambda i: _stage(moves[i])):
        moved = np.where(vector < 0, rng.integers(_choices(space)), vector)
        for place, step in moves[i]:
            moved[place] += step
        yield repaired(feasible, space.decode(moved))


def _moves(space: Space, vector: Vector) -> list[Move]:
    """Places in the vector and their steps: single ones, and exchanges of two in layers."""
    up = [(place, 1) for place in np.flatnonzero((vector >= 0) & (vector + 1 < _choices(space))).tolist()]
    down = [(place, -1) for place in np.flatnonzero(vector > 0).tolist()]
    singles = [(step,) for step in (*up, *down)]
    exchanges = [(a, b) for a in up for b in down if a[0] != b[0] and min(a[0], b[0]) >= _LAYERS]
    return [*singles, *exchanges]


def _stage(move: Move) -> int:
    return len(move) if move[0][0] >= _LAYERS else 0


def _choices(space: Space) -> Vector:
    """How many choices each entry of an encoded subnet has."""
    return np.array([len(space.embed_dims), len(space.depths), *(n for both in space.sizes for n in both)])
