"""Calibration speech as tensors: all that a score needs, so that a search needs neither audio nor a teacher."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from search_spaces import CheckpointError, NasError
from search_spaces.files import cache_folder, replacing

__all__ = ["CalibrationSpeech", "kept_calibration", "load_calibration", "save_calibration"]

Profile = tuple[int, ...]
_STEP = 1 / 31  # int8 targets: standardised and clipped to +-4, in steps of 1/31


@dataclass(frozen=True)
class CalibrationSpeech:
    """Front-end features (T, C) and standardised teacher targets (T, K, dim) of each utterance, float32.

    `features` are those of the space's largest front end, `narrower` those of the others by their channels. `waves`
    (S,), as the network takes them: only for speech that was read from recordings; no file stores them.
    """

    features: list[Tensor]
    targets: list[Tensor]
    waves: list[Tensor] | None = None
    narrower: Mapping[Profile, list[Tensor]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, features: Mapping[Profile, list[Tensor]], targets: list[Tensor], waves: list[Tensor] | None = None
    ) -> CalibrationSpeech:
        """From the features of each front end of a space, the largest last."""
        *narrower, largest = features
        return cls(features[largest], targets, waves, {front_end: features[front_end] for front_end in narrower})

    def features_of(self, front_end: Profile) -> list[Tensor]:
        """The features of a front end."""
        own = self.narrower.get(front_end, self.features)
        if front_end and own and own[0].shape[-1] != front_end[-1]:
            raise CheckpointError(
                f"the calibration speech has no features of the front end {'-'.join(map(str, front_end))}: take "
                "recordings (--audio)"
            )
        return own

    def part(self, rows: Sequence[int]) -> CalibrationSpeech:
        """Some of the utterances."""
        narrower = {front_end: [own[i] for i in rows] for front_end, own in self.narrower.items()}
        waves = None if self.waves is None else [self.waves[i] for i in rows]
        return CalibrationSpeech([self.features[i] for i in rows], [self.targets[i] for i in rows], waves, narrower)


def save_calibration(calibration: CalibrationSpeech, file: Path | str) -> None:
    """Writes features as float16 and targets as int8 (rounding adds 1e-4 of their variance)."""
    tensors = {
        "lengths": _lengths(calibration),
        **{name: value.half() for name, value in _features(calibration).items()},
        "targets": (torch.cat(calibration.targets) / _STEP).round().clamp(-127, 127).to(torch.int8),
    }
    with replacing(file) as temporary:
        save_file(tensors, temporary)


def load_calibration(file: Path | str) -> CalibrationSpeech:
    """The calibration that `save_calibration` wrote. Raises `CheckpointError` for anything else."""
    try:
        tensors = load_file(file)
        return _calibration({name: value.float() for name, value in tensors.items()}, _STEP)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{file} is not a calibration file: {error}") from None


def kept_calibration(key: str, make: Callable[[], CalibrationSpeech]) -> CalibrationSpeech:
    """The result of `make`, unrounded; from the cache folder, memory-mapped, if it was computed before.

    `key` must name everything that the result depends on. A cache folder that cannot be written costs only time.
    """
    file = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
    if file.exists():
        with contextlib.suppress(
            SafetensorError, OSError, KeyError, ValueError, RuntimeError
        ):  # truncated: computed again
            return _calibration(load_file(file))
    calibration = make()
    tensors = {
        "lengths": _lengths(calibration),
        **_features(calibration),
        "targets": torch.cat(calibration.targets).contiguous(),
    }
    with contextlib.suppress(NasError, SafetensorError), replacing(file, shared=True) as temporary:
        save_file(tensors, temporary)
    return calibration


def _features(calibration: CalibrationSpeech) -> dict[str, Tensor]:
    """One tensor for each front end: "features", and "features.256-256-..." for narrower ones."""
    named = {"features": calibration.features}
    named |= {f"features.{'-'.join(map(str, front_end))}": own for front_end, own in calibration.narrower.items()}
    return {name: torch.cat(own).contiguous() for name, own in named.items()}


def _calibration(tensors: Mapping[str, Tensor], step: float = 1.0) -> CalibrationSpeech:
    lengths = [int(length) for length in tensors["lengths"].tolist()]
    targets = tensors["targets"] if step == 1.0 else tensors["targets"] * step
    split = {name: list(torch.split(value, lengths)) for name, value in tensors.items() if name.startswith("features")}
    features = split.pop("features")
    narrower = {tuple(map(int, name.partition(".")[2].split("-"))): own for name, own in split.items()}
    return CalibrationSpeech(features, list(torch.split(targets, lengths)), None, narrower)


def _lengths(calibration: CalibrationSpeech) -> Tensor:
    return torch.tensor([len(features) for features in calibration.features], dtype=torch.int32)
