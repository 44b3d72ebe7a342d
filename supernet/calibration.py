"""Calibration speech as numbers: what a score needs, so that searching needs neither audio nor a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from search_spaces import CheckpointError

__all__ = ["Calibration", "load_calibration", "save_calibration"]

_STEP = 1 / 31  # int8 targets: standardised and clipped to +-4, in steps of 1/31


@dataclass(frozen=True)
class Calibration:
    """Front-end features (T, C) and standardised teacher targets (T, K, dim) of each utterance, float32.

    `waves` (S,), normalised: where the speech itself is at hand; no file keeps them.
    """

    features: list[Tensor]
    targets: list[Tensor]
    waves: list[Tensor] | None = None


def save_calibration(calibration: Calibration, file: Path | str) -> None:
    """Writes features as float16 and targets as int8 (rounding adds 1e-4 of their variance)."""
    tensors = {
        "lengths": torch.tensor([len(features) for features in calibration.features], dtype=torch.int32),
        "features": torch.cat(calibration.features).half(),
        "targets": (torch.cat(calibration.targets) / _STEP).round().clamp(-127, 127).to(torch.int8),
    }
    partial = Path(file).with_name(f".{Path(file).name}.partial")
    save_file(tensors, partial)
    partial.replace(file)


def load_calibration(file: Path | str) -> Calibration:
    """The calibration that `save_calibration` wrote. Raises `CheckpointError` for anything else."""
    try:
        tensors = load_file(file)
        lengths = tensors["lengths"].tolist()
        features, targets = tensors["features"].float(), tensors["targets"].float() * _STEP
        return Calibration(list(features.split(lengths)), list(targets.split(lengths)))
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{file} is not a calibration file: {error}") from None
