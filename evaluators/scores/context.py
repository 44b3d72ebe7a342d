"""The input of the scores' constructors; each uses the parts that it needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces import NasError

if TYPE_CHECKING:
    from supernet import HubertSupernet

__all__ = ["MAX_RECORDING_SECONDS", "MIN_TO_HOLD_OUT", "ScoreContext", "no_score", "require_whole"]


MAX_RECORDING_SECONDS = 30.0
"""Longer recordings are cut: attention over one of ten minutes costs more than all the others together."""

MIN_TO_HOLD_OUT = 8
"""Of at least so many utterances, some are set apart from the search: one in four, or half if there are enough."""


@dataclass(frozen=True)
class ScoreContext:
    """A supernet, and how and on which speech its subnets are scored.

    `audio`: manifest of recordings. `teacher`: Hugging Face folder. `precision`: of teacher distances. `successive`:
    rule out on a quarter of the speech the subnets that cannot be the best.
    """

    model: HubertSupernet
    device: str = "cpu"
    audio: Path | str | None = None
    teacher: Path | str | None = None
    precision: str = "fp32"
    successive: bool = False


def require_whole(context: ScoreContext, name: str) -> None:
    """Raises `NasError` if a score that cannot rule subnets out is asked to."""
    if context.successive:
        raise NasError(f"successive evaluation is for the score distillation; got {name!r}")


def no_score(words: str, known: Iterable[str] = ()) -> NasError:
    """The error for `words` that name no score."""
    names = f"; known scores: {', '.join(known)}" if known else ""
    return NasError(
        f"a score is distillation, probe:LABEL, or a sum such as 'probe:speaker+0.5*distillation' with weights "
        f"above 0{names}; got {words!r}"
    )
