"""A space small enough to walk, a cost for it, and scores that misbehave on purpose."""

from __future__ import annotations

from collections.abc import Sequence

from nas import Evaluation
from search_spaces import AdditiveTable, Space, Subnet, space_from_dict


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


def evaluation(index: int, subnet: Subnet, score: float | None = 0.5, params: int = 1, **fields: str) -> Evaluation:
    return Evaluation(index, subnet, {"params": params}, score, **fields)


def content(evaluations: Sequence[Evaluation]) -> list[dict[str, object]]:
    """Everything but the times."""
    timeless = ("seconds", "at")
    return [{k: v for k, v in e.to_dict().items() if k not in timeless} for e in evaluations]


class Counting:
    """A score that says how often each subnet was scored, and calls `hook` before each batch."""

    def __init__(self, score, hook=lambda batch: None):
        self.score, self.hook, self.scored = score, hook, []

    def __call__(self, subnets: list[Subnet]) -> list[float]:
        self.hook(subnets)
        values = self.score(subnets)
        self.scored += subnets
        return values


class Ruling:
    """A score that rules out, with an estimate that is a little off, whatever is worse than the best known."""

    higher_is_better, name = True, "ruling"

    def __init__(self, score):
        self.score = score

    def __call__(self, subnets: list[Subnet]) -> list[float]:
        return self.score(subnets)

    def against(self, subnets: list[Subnet], best: Subnet, score: float) -> list[tuple[float, bool]]:
        assert self.score([best]) == [score]
        return [(value - 0.001, True) if value < score else (value, False) for value in self.score(subnets)]
