"""The made-up score by name: `synthetic` or `synthetic:SEED`."""

from __future__ import annotations

from evaluators.scores.context import ScoreContext, require_whole
from search_spaces import NasError
from search_spaces.synthetic import SyntheticScore

__all__ = ["SyntheticScore", "make_synthetic"]


def make_synthetic(context: ScoreContext, argument: str | None) -> SyntheticScore:
    """`synthetic` or `synthetic:SEED`, over the space of the context's supernet."""
    require_whole(context, "synthetic")
    if argument is not None and not argument.isdecimal():
        raise NasError(f"the argument of synthetic is a seed, as in synthetic:3; got {argument!r}")
    return SyntheticScore(context.model.space, int(argument or 0))
