"""A space small enough to enumerate, a cost for it, and scores for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nas.runs.ledger import Evaluation
from search_spaces import AdditiveTable, Space, Subnet, space_from_dict

__all__ = ["Counting", "Ruling", "content", "evaluation", "params_of", "tiny_space"]

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
