"""A space small enough to enumerate, a cost for it, and scores for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from nas.runs.ledger import Evaluation
from search_spaces import AdditiveTable, ChainTable, Space, Subnet, space_from_dict

__all__ = ["Counting", "Ruling", "chain_world", "content", "evaluation", "params_of", "tiny_space"]

Score = Callable[[list[Subnet]], Sequence[float]]


def tiny_space(heads: Sequence[int] = (2, 4, 6)) -> Space:
    """Three layers, depths 2 and 3: 2 * (36 + 216) = 504 subnets with three choices of heads."""
    return space_from_dict(
        {
            "name": "test",
            "embed_dims": [128, 192],
            "heads": list(heads),
            "ffn_ratios": [1.5, 3.5],
            "depth_map": {"2": [1, 3], "3": [1, 2, 3]},
            "network": {
                "conv_layers": [[32, 400, 320]],
                "width": 192,
                "heads": 6,
                "ffn_dim": 672,
                "head_dim": 32,
                "num_layers": 3,
            },
        }
    )


def params_of(space: Space) -> AdditiveTable:
    """A made-up whole-number cost, the matrices of each layer."""
    return AdditiveTable.build(
        space, "params", "parameters",
        lambda D, depth: 1000 + D,
        lambda D, heads, ratio, layer, depth: 4 * D * 32 * heads + 2 * D * int(ratio * D),
    )  # fmt: skip


def chain_world(space: Space, strength: float, seed: int) -> ChainTable:
    """A score with known optimum (`Feasible.best`): N(0, 1) for each embed dim, each depth, and each layer's choice.

    Neighbouring kept layers add `strength` times N(0, 1) for each pair of their choices.
    """
    rng = np.random.default_rng([seed, round(100 * strength)])
    E, P = len(space.embed_dims), len(space.depths)
    shape = rng.standard_normal((E, 1)) + rng.standard_normal((1, P))
    terms = [rng.standard_normal(len(choices)) for choices in space.choices]
    layers = tuple(np.broadcast_to(each, (E, P, len(each))).copy() for each in terms)
    pairs = {}
    for pair in sorted({pair for kept in space.depth_map.values() for pair in pairwise(kept)} if strength else ()):
        size = len(space.choices[pair[0]]), len(space.choices[pair[1]])
        pairs[pair] = strength * rng.standard_normal(size)
    return ChainTable(space, "chain world", "points", shape, layers, pairs)


def evaluation(
    index: int,
    subnet: Subnet,
    score: float | None = 0.5,
    params: int = 1,
    status: str = "ok",
    error: str | None = None,
    at: str = "",
) -> Evaluation:
    """An evaluation with the cost "params" alone."""
    return Evaluation(index, subnet, {"params": params}, score, status, error, at=at)


def content(evaluations: Sequence[Evaluation]) -> list[dict[str, object]]:
    """The evaluations as plain containers, without their times."""
    timeless = ("seconds", "at")
    return [{k: v for k, v in e.to_dict().items() if k not in timeless} for e in evaluations]


class Counting:
    """A score that records the subnets it scored, and calls `hook` before each batch."""

    def __init__(self, score: Score, hook: Callable[[list[Subnet]], None] = lambda batch: None) -> None:
        self.score, self.hook = score, hook
        self.scored: list[Subnet] = []

    def __call__(self, subnets: list[Subnet]) -> Sequence[float]:
        self.hook(subnets)
        values = self.score(subnets)
        self.scored += subnets
        return values


class Ruling:
    """A score that rules out every subnet worse than the best known, with an estimate that is a little off."""

    higher_is_better, name = True, "ruling"

    def __init__(self, score: Score) -> None:
        self.score = score

    def __call__(self, subnets: list[Subnet]) -> Sequence[float]:
        return self.score(subnets)

    def against(self, subnets: list[Subnet], best: Subnet, score: float) -> list[tuple[float, bool]]:
        assert list(self.score([best])) == [score]
        return [(value - 0.001, True) if value < score else (value, False) for value in self.score(subnets)]
