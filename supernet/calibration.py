"""Calibration speech as tensors: all that a score needs, so that a search needs neither audio nor a teacher."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from search_spaces import CheckpointError, NasError
from search_spaces.files import cache_folder, replacing

__all__ = ["CalibrationSpeech", "kept_calibration", "load_calibration", "save_calibration"]

_STEP = 1 / 31  # int8 targets: standardised and clipped to +-4, in steps of 1/31


@dataclass(frozen=True)
class CalibrationSpeech:
    """Front-end features (T, C) and standardised teacher targets (T, K, dim) of each utterance, float32.

    `waves` (S,), normalised: only for speech that was read from recordings; no file stores them.
    """

    features: list[Tensor]
    targets: list[Tensor]
    waves: list[Tensor] | None = None


def save_calibration(calibration: CalibrationSpeech, file: Path | str) -> None:
    """Writes features as float16 and targets as int8 (rounding adds 1e-4 of their variance)."""
    tensors = {
        "lengths": _lengths(calibration),
        "features": torch.cat(calibration.features).half(),
        "targets": (torch.cat(calibration.targets) / _STEP).round().clamp(-127, 127).to(torch.int8),
    }
    with replacing(file) as temporary:
        save_file(tensors, temporary)


def load_calibration(file: Path | str) -> CalibrationSpeech:
    """The calibration that `save_calibration` wrote. Raises `CheckpointError` for anything else."""
    try:
        tensors = load_file(file)
        lengths = tensors["lengths"].tolist()
        features, targets = tensors["features"].float(), tensors["targets"].float() * _STEP
        return CalibrationSpeech(list(features.split(lengths)), list(targets.split(lengths)))
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{file} is not a calibration file: {error}") from None


def kept_calibration(key: str, make: Callable[[], CalibrationSpeech]) -> CalibrationSpeech:
    """The result of `make`, unrounded; from the cache folder, memory-mapped, if it was computed before.

    `key` must name everything that the result depends on. A cache folder that cannot be written costs only time.
    """
    file = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
    if file.exists():
        with contextlib.suppress(SafetensorError, OSError, KeyError, RuntimeError):  # truncated: computed again
            tensors = load_file(file)
            lengths = tensors["lengths"].tolist()
            return CalibrationSpeech(list(tensors["features"].split(lengths)), list(tensors["targets"].split(lengths)))
    calibration = make()
    tensors = {
        "lengths": _lengths(calibration),
        "features": torch.cat(calibration.features).contiguous(),
        "targets": torch.cat(calibration.targets).contiguous(),
    }
    with contextlib.suppress(NasError, SafetensorError), replacing(file, shared=True) as temporary:
        save_file(tensors, temporary)
    return calibration


def _lengths(calibration: CalibrationSpeech) -> Tensor:
    return torch.tensor([len(features) for features in calibration.features], dtype=torch.int32)
