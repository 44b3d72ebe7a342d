"""The parts of run.json that a search adds when it ends, as `nas.trust` and `nas.verify` write them.

A run folder is untrusted, so a file may hold anything else here: readers turn the errors that follow into a `RunError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

__all__ = [
    "Candidate",
    "ChoiceEffect",
    "Effects",
    "Hypervolume",
    "LayerEffects",
    "Measured",
    "Reference",
    "Rescored",
    "RescoredRow",
    "Tau",
    "Trust",
    "Verification",
]


class ChoiceEffect(TypedDict, total=False):
    """How far one choice moves the score from the mean; it has its choice's keys, such as "heads" or "depth"."""

    heads: int
    ffn_ratio: float
    embed_dim: int
    depth: int
    effect: float | None
    std: float | None
    count: int | None


class LayerEffects(TypedDict):
    """The effects of one layer's choices; layers count from 1."""

    layer: int
    choices: Sequence[ChoiceEffect]


class Effects(TypedDict, total=False):
    """The effect of every choice on the score, by the score model."""

    layers: Sequence[LayerEffects]
    embed_dims: Sequence[ChoiceEffect]
    depths: Sequence[ChoiceEffect]


class Tau(TypedDict, total=False):
    """Kendall's tau with its 95 % interval."""

    tau: float | None
    low: float | None
    high: float | None


class RescoredRow(TypedDict):
    """One subnet's score in the search, and on speech that the search did not use."""

    id: str
    score: float
    rescored: float


class Rescored(Tau, total=False):
    """Agreement of the search's scores with those on other speech."""

    speech: str
    subnets: int
    winner_rank: int
    rows: Sequence[RescoredRow]


class Holdout(TypedDict):
    """The last candidates on speech that the search did not use, the winner first."""

    winner: int
    speech: str
    rows: Sequence[RescoredRow]


class Trust(TypedDict, total=False):
    """How reliable the result is; `words` is the same in sentences."""

    model: Tau | None
    by_cost: Mapping[str, Tau]
    rescored: Rescored | None
    certificate: str | None
    words: Sequence[str]


class Reference(TypedDict):
    """The worst point that still counts towards the hypervolume."""

    cost: float
    score: float


class Hypervolume(TypedDict):
    """The area between the front and its reference point."""

    value: float
    reference: Reference


class Measured(TypedDict):
    """One candidate, measured again after the search for one budget."""

    keeps: bool
    limit_ms: float
    predicted_ms: float
    bound_ms: float
    measured_ms: float
    measured_at_most_ms: float


class Candidate(TypedDict):
    """One of the best subnets, with its measurements by budget (as text)."""

    index: int
    id: str
    budgets: Mapping[str, Measured]


class Verification(TypedDict, total=False):
    """The candidates that were measured again, best first; `winner` is the first that keeps its budgets (its index)."""

    winner: int | None
    candidates: Sequence[Candidate]
