"""CalibrationSpeech speech as numbers: what a score needs, so that searching needs neither audio nor a teacher."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from search_spaces import CheckpointError

__all__ = ["CalibrationSpeech", "cache_folder", "kept_calibration", "load_calibration", "save_calibration"]

_STEP = 1 / 31  # int8 targets: standardised and clipped to +-4, in steps of 1/31


@dataclass(frozen=True)
class CalibrationSpeech:
    """Front-end features (T, C) and standardised teacher targets (T, K, dim) of each utterance, float32.

    `waves` (S,), normalised: where the speech itself is at hand; no file keeps them.
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
    partial = Path(file).with_name(f".{Path(file).name}.partial")
    save_file(tensors, partial)
    partial.replace(file)


def load_calibration(file: Path | str) -> CalibrationSpeech:
    """The calibration that `save_calibration` wrote. Raises `CheckpointError` for anything else."""
    try:
        tensors = load_file(file)
        lengths = tensors["lengths"].tolist()
        features, targets = tensors["features"].float(), tensors["targets"].float() * _STEP
        return CalibrationSpeech(list(features.split(lengths)), list(targets.split(lengths)))
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{file} is not a calibration file: {error}") from None


def cache_folder() -> Path:
    """Where this package keeps what it can make anew."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lighthubert-nas"


def kept_calibration(key: str, make: Callable[[], CalibrationSpeech]) -> CalibrationSpeech:
    """What `make` gives, exactly, from the cache folder if it was made before: memory-mapped, not read.

    `key` names everything it depends on. The folder is `$XDG_CACHE_HOME/lighthubert-nas`, or that in `~/.cache`; where
    it cannot be written, nothing is lost but time. Files there may be deleted at any moment.
    """
    cache = cache_folder()
    file = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
    if file.exists():
        with contextlib.suppress(SafetensorError, OSError, KeyError, RuntimeError):  # cut short: made anew
            tensors = load_file(file)
            lengths = tensors["lengths"].tolist()
            return CalibrationSpeech(list(tensors["features"].split(lengths)), list(tensors["targets"].split(lengths)))
    made = make()
    with contextlib.suppress(OSError, SafetensorError):
        cache.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
        tensors = {
            "lengths": torch.tensor([len(features) for features in made.features], dtype=torch.int32),
            "features": torch.cat(made.features).contiguous(),
            "targets": torch.cat(made.targets).contiguous(),
        }
        save_file(tensors, partial)
        partial.replace(file)
    return made
