"""Sums over layers and over pairs of neighbouring layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from search_spaces.additive import AdditiveTable
from search_spaces.errors import SpaceError
from search_spaces.types import Array

__all__ = ["ChainTable"]


@dataclass(frozen=True, eq=False)
class ChainTable(AdditiveTable):
    """An `AdditiveTable` with additional terms for pairs of neighbouring layers.

    `pairs[a, b]` (C, C') is over the choices of layers a and b, and counts in subnets that keep both layers and none
    between them. A chain can be optimised under limits, but the limits themselves must be plain tables.

    Raises `SpaceError` for layers that are neighbours at no depth, and for pairs of another shape.
    """

    pairs: Mapping[tuple[int, int], Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        neighbours = {pair for chain in self.space.chains for pair in pairwise(chain)}
        for (a, b), terms in self.pairs.items():
            if (a, b) not in neighbours:
                raise SpaceError(f"layers {a + 1} and {b + 1} are neighbours at no depth of '{self.space.name}'")
            shape = (len(self.space.choices[a]), len(self.space.choices[b]))
            if np.shape(terms) != shape or not np.isfinite(terms).all():
                raise SpaceError(f"pairs of layers {a + 1} and {b + 1} must be finite, of shape {shape}")

    def links(self, kept: Sequence[int]) -> list[Array | None]:
        """The terms (C, C') of each two neighbours among the kept layers, or None."""
        return [self.pairs.get(pair) for pair in pairwise(kept)]

    def without_pairs(self) -> AdditiveTable:
        """The same table without the terms of pairs."""
        return AdditiveTable(self.space, self.name, self.unit, self.constant, self.layers)

    def of_vectors(self, vectors: npt.ArrayLike) -> Array:
        """The quantity (N,) of N subnets, given as rows of `Space.encode`."""
        rows = np.asarray(vectors, dtype=np.int64)
        totals = super().of_vectors(rows)
        chosen = self.space.chosen(rows)
        for p, chain in enumerate(self.space.chains):
            mine = np.flatnonzero(rows[:, 1] == p)
            for link, (a, b) in zip(self.links(chain), pairwise(chain), strict=True):
                if link is not None:
                    totals[mine] += link[chosen[mine, a], chosen[mine, b]]
        return totals
