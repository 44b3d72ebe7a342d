"""A made-up score whose optimum is known: for tests, docs and benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from search_spaces.additive import AdditiveTable
from search_spaces.space import Space
from search_spaces.subnet import Subnet
from search_spaces.types import Array

__all__ = ["SyntheticScore"]


class SyntheticScore:
    """More is better with diminishing returns, layers matter by different amounts, and choices have quirks.

    score = additive part + `interactions` * (terms of neighbouring kept layers) + `noise` * N(0, 1)

    The additive part is `table`: without the other two, `table.best` under a budget is the known optimum. Terms of
    interactions are N(0, 1) for each pair of choices, divided by the number of layers. Noise depends on the subnet
    (and the seed) alone, so scoring one again gives the same number.
    """

    name = "synthetic"
    higher_is_better = True

    def __init__(self, space: Space, seed: int = 0, noise: float = 0.0, interactions: float = 0.0) -> None:
        self.space, self.seed, self.noise, self.interactions = space, seed, noise, interactions
        self.settings: dict[str, object] = {"seed": seed, "noise": noise, "interactions": interactions}
        self.table = _additive(space, np.random.default_rng(seed))
        self._pairs: dict[tuple[int, int], Array] = {}

    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        """One score for each subnet."""
        if not subnets:
            return []
        additive = self.table.of_vectors([self.space.encode(subnet) for subnet in subnets])
        return [float(value) + self._extras(subnet) for value, subnet in zip(additive, subnets, strict=True)]

    def _extras(self, subnet: Subnet) -> float:
        extras = 0.0
        if self.interactions:
            chosen = self.space.chosen_by(subnet)
            at = [(entry, self.space.choices[entry].index(choice)) for entry, choice in chosen]
            pairs = sum(float(self._pair(a, b)[i, j]) for (a, i), (b, j) in pairwise(at))
            extras += self.interactions * pairs / self.space.network.num_layers
        if self.noise:
            rng = np.random.default_rng([self.seed, int(subnet.id, 16)])
            extras += self.noise * float(rng.standard_normal())
        return extras

    def _pair(self, a: int, b: int) -> Array:
        if (a, b) not in self._pairs:
            rng = np.random.default_rng([self.seed, a, b])
            self._pairs[a, b] = rng.standard_normal((len(self.space.choices[a]), len(self.space.choices[b])))
        return self._pairs[a, b]


def _additive(space: Space, rng: np.random.Generator) -> AdditiveTable:
    """Logarithmic gains of heads, FFN ratio and embed dim, weighted by layer, and a quirk for each choice."""
    layers = space.network.num_layers
    of_heads, of_ratio = rng.uniform(0.1, 1.0, (2, layers)) / layers
    quirks = [rng.normal(0.0, 0.1 / layers, len(choices)) for choices in space.choices]

    def constant(embed_dim: int, depth: int) -> float:
        return float(np.log(embed_dim / max(space.embed_dims)) - 0.5 * (1 - depth / layers))

    def layer(embed_dim: int, heads: int, ratio: float, index: int, depth: int) -> float:
        gain = of_heads[index] * _gain(heads, max(space.heads[index]))
        gain += of_ratio[index] * _gain(ratio, max(space.ffn_ratios[index]))
        return float(gain + quirks[index][space.choices[index].index((heads, ratio))])

    def front_end(embed_dim: int, channels: tuple[int, ...]) -> float:
        return 0.5 * _gain(sum(channels), sum(space.network.channels))

    return AdditiveTable.build(space, "synthetic", "points", constant, layer, front_end)


def _gain(value: float, most: float) -> float:
    """Logarithmic, and finite at 0."""
    return math.log(value / most) if value else -4.0 if most else 0.0
