"""CalibrationSpeech speech as numbers: what a score needs, so that searching needs neither audio nor a teacher."""

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

    `waves` (S,): the normalised speech itself, if it is available; files do not keep it.
    """

    features: list[Tensor]
    targets: list[Tensor]
    waves: list[Tensor] | None = None


def save_calibration(calibration: CalibrationSpeech, file: Path | str) -> None:
    """Writes features as float16 and targets as int8 (rounding adds 1e-4 of their variance)."""
    tensors = {
        "lengths": torch.tensor([len(features) for features in calibration.features], dtype=torch.int32),
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
    """The result of `make`, exactly, from the cache folder if it was made before: memory-mapped, not read.

    `key` names everything it depends on. If the cache cannot be written, only time is lost; its files may be deleted at
    any time.
    """
    file = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
    if file.exists():
        with contextlib.suppress(SafetensorError, OSError, KeyError, RuntimeError):  # cut short: made anew
            tensors = load_file(file)
            lengths = tensors["lengths"].tolist()
            return CalibrationSpeech(list(tensors["features"].split(lengths)), list(tensors["targets"].split(lengths)))
    made = make()
    with contextlib.suppress(NasError, SafetensorError), replacing(file, shared=True) as temporary:
        tensors = {
            "lengths": torch.tensor([len(features) for features in made.features], dtype=torch.int32),
            "features": torch.cat(made.features).contiguous(),
            "targets": torch.cat(made.targets).contiguous(),
        }
        save_file(tensors, temporary)
    return made
