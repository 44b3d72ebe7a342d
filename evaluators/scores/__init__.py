"""The scores by name, and one function that makes each. Importing this does not import torch."""

from __future__ import annotations

from typing import Any

from evaluators.scores.mixed import get_score
from evaluators.scores.synthetic import SyntheticScore
from search_spaces import Space

__all__ = ["SCORES", "distillation", "get_score", "probe", "synthetic"]

SCORES: dict[str, str] = {
    "distillation": "evaluators.scores.teacher_distance:DistillationScore",
    "mix": "evaluators.scores.mixed:MixedScore",
    "probe": "evaluators.scores.probes:ProbeScore",
    "synthetic": "evaluators.scores.synthetic:SyntheticScore",
}


def distillation(model: Any, device: str = "cpu", audio: Any = None, **options: Any) -> Any:
    """How near subnets of the supernet `model` come to the teacher, on `audio` or the supernet's own calibration."""
    from evaluators.scores.teacher_distance import DistillationScore

    return DistillationScore(model, device=device, audio=audio, **options)


def probe(model: Any, label: str, audio: Any, device: str = "cpu", **options: Any) -> Any:
    """How much a linear probe of subnets of `model` knows of `label`, on the manifest `audio`."""
    from evaluators.scores.probes import ProbeScore

    return ProbeScore(model, label, audio, device, **options)


def synthetic(space: Space, seed: int = 0, noise: float = 0.0, interactions: float = 0.0) -> SyntheticScore:
    """A made-up score with a known optimum: see `SyntheticScore`."""
    return SyntheticScore(space, seed, noise, interactions)
