"""The best uniform subnet within the budgets, which every search names beside its winner.

Subnets that are alike in all layers are what people choose by hand and what stock classes can load. So a search must be
at least as good, and says by how much it is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from nas.runs.ledger import Evaluation
from nas.searchers.base import Searcher
from search_spaces import AdditiveTable, Feasible, Subnet

__all__ = ["EVERY", "MAX_CANDIDATES", "WithUniform", "candidates"]

MAX_CANDIDATES = 32
EVERY = 4
_MAX_COMPARED = 4096


def candidates(feasible: Feasible) -> list[Subnet]:
    """The uniform subnets within the budgets that may be the best: all if they are few, else the largest.

    The largest, which come first, are those of which no other has as much of everything; if they are over
    `MAX_CANDIDATES`, evenly spread ones.
    """
    uniform = Feasible(feasible.space, feasible.limits, uniform=True)
    if not uniform.count():
        return []
    subnets = list(islice(uniform.ranked(_size(feasible)), _MAX_COMPARED))
    largest = _largest(feasible, subnets)
    if len(subnets) > MAX_CANDIDATES:
        subnets = largest
    subnets = list(dict.fromkeys([*largest, *subnets]))
    if len(subnets) > MAX_CANDIDATES:
        subnets = [subnets[i] for i in np.linspace(0, len(subnets) - 1, MAX_CANDIDATES).round().astype(int).tolist()]
    return subnets


def _size(feasible: Feasible) -> AdditiveTable:
    """Steps of choices over the smallest subnet: an order in which the largest come first."""
    return AdditiveTable.build(
        feasible.space,
        "size",
        "steps",
        lambda D, depth: feasible.space.embed_dims.index(D) + feasible.space.depths.index(depth),
        lambda D, heads, ratio, layer, depth: heads + int(8 * ratio),
        lambda D, channels: sum(channels),
    )


def _largest(feasible: Feasible, subnets: list[Subnet]) -> list[Subnet]:
    """Those that no other is at least as large as in every choice, in the order given."""
    space = feasible.space
    sizes = np.array(
        [(s.embed_dim, s.depth, space.front_ends.index(s.front_end), s.heads[0], s.ffn_ratios[0]) for s in subnets]
    )
    kept = []
    for i, own in enumerate(sizes):
        over = (sizes >= own).all(1)
        over[i] = False
        if not over.any():
            kept.append(subnets[i])
    return kept


class WithUniform(Searcher):
    """A searcher, every fourth of whose proposals is a uniform candidate, the largest first, as long as there are some.

    So the best uniform subnet is known early, whatever the number of evaluations, and the searcher learns from them.
    """

    def __init__(self, searcher: Searcher) -> None:
        super().__init__(searcher.feasible, searcher.objective, searcher.rng, searcher.evals)
        self.searcher, self.asked = searcher, 0
        self._waiting = candidates(searcher.feasible)

    def ask(self, n: int) -> list[Subnet]:
        places = len(range(-self.asked % EVERY, n, EVERY))  # of the next n proposals
        new = (subnet for subnet in iter(self._next, None) if self.searcher.take(subnet))
        subnets = list(islice(new, places))
        subnets += self.searcher.ask(n - len(subnets)) if len(subnets) < n else []
        self.asked += len(subnets)
        return subnets

    def _next(self) -> Subnet | None:
        return self._waiting.pop(0) if self._waiting else None

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self.searcher.tell(evaluations)

    def start_from(self, known: Sequence[Evaluation]) -> None:
        self.searcher.start_from(known)

    def take(self, subnet: Subnet) -> bool:
        return self.searcher.take(subnet)
