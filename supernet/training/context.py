"""What a training run has beside its recipe: the device, who follows its progress, and how long it may take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

__all__ = ["Progress", "RunContext", "TrainingRecord", "ignore_progress"]


class TrainingRecord(TypedDict, total=False):
    """One report; the keys say which kind it is.

    targets, seconds, of                                          seconds of speech whose targets are now computed
    stage, steps, folder                                          a stage starts; its folder has its log.jsonl
    step, loss, layers, grad_norm, seconds, audio_seconds         a step is done (a line of log.jsonl)
    step, dev, groups                                             a validation is done (a line of log.jsonl)
    """

    targets: str
    of: float
    stage: int
    steps: int
    folder: str
    step: int
    loss: float
    layers: list[float]
    grad_norm: float
    seconds: float
    audio_seconds: float
    dev: dict[str, list[float]]
    groups: dict[str, dict[str, float]]
    kl: dict[str, float]


Progress = Callable[[TrainingRecord], None]


def ignore_progress(record: TrainingRecord) -> None:
    """Does nothing with a report."""


@dataclass(frozen=True)
class RunContext:
    """`stop_after` that many seconds a stage writes a checkpoint and stops."""

    device: str = "cpu"
    progress: Progress = ignore_progress
    stop_after: float = math.inf
