"""How a model wants its input: the settings of a Hugging Face `preprocessor_config.json` that change what it hears."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces import CheckpointError
from search_spaces.files import read_text
from search_spaces.network import MEL_HOP, MEL_WINDOW
from search_spaces.types import Array
from supernet.audio import RATE

__all__ = ["FILE", "Preprocessor", "read_preprocessor"]

FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class Preprocessor:
    """Prepares samples at 16 kHz: with mean 0 and variance 1 (`eps` is added to the variance), or as they are.

    The defaults are those of fairseq and s3prl (a layer norm of the waveform); Hugging Face adds 1e-7.
    """

    normalize: bool = True
    eps: float = 1e-5

    def __call__(self, samples: Array) -> Array:
        """Samples (S,) in float32."""
        if not self.normalize:
            return samples.astype(np.float32)
        centred = samples - samples.mean(dtype=np.float64)
        scaled = centred / np.sqrt((centred**2).mean(dtype=np.float64) + self.eps)
        return scaled.astype(np.float32)  # type: ignore[no-any-return]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for `config.json`."""
        return {"normalize": self.normalize, "eps": self.eps, "sampling_rate": RATE}

    @classmethod
    def from_dict(cls, fields: object, file: Path) -> Preprocessor:
        """From the "input" of a `config.json`; None in files of before it was kept. Raises `CheckpointError`."""
        if fields is None:
            return cls()
        known = {"normalize", "eps", "sampling_rate"}
        if not isinstance(fields, Mapping) or not set(fields) <= known:
            raise CheckpointError(
                f"input of {file} must be an object with {', '.join(sorted(known))}; got {fields!r:.80}"
            )
        _check_rate(fields, file)
        normalize, eps = fields.get("normalize", True), fields.get("eps", cls.eps)
        if not isinstance(normalize, bool) or type(eps) not in (int, float) or not 0 < eps < 1:
            raise CheckpointError(
                f"input of {file}: normalize must be true or false and eps in 0..1; got {fields!r:.80}"
            )
        return cls(normalize, float(eps))


def read_preprocessor(folder: Path, mels: int = 0) -> Preprocessor:
    """The preprocessor of a Hugging Face folder, by default as `Wav2Vec2FeatureExtractor`: normalised, 16 kHz.

    `mels`: bins of the network's own spectrogram, as `WhisperFeatureExtractor` makes it: then samples stay as they are.
    Raises `CheckpointError` for settings that cannot be followed.
    """
    file = folder / FILE
    fields: object = {}
    if file.is_file():
        try:
            fields = json.loads(read_text(file))
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"cannot read {file}: {error}") from None
    if not isinstance(fields, Mapping):
        raise CheckpointError(f"{file} must hold a JSON object; got a {type(fields).__name__}")
    _check_rate(fields, file)
    if mels:
        for key, own in (("feature_size", mels), ("n_fft", MEL_WINDOW), ("hop_length", MEL_HOP), ("dither", 0.0)):
            if fields.get(key, own) != own:
                raise CheckpointError(f"{key} of {file} must be {own}, as the network has it; got {fields[key]!r:.40}")
        return Preprocessor(normalize=False)
    normalize = fields.get("do_normalize", True)
    if not isinstance(normalize, bool):
        raise CheckpointError(f"do_normalize of {file} must be true or false; got {normalize!r:.40}")
    return Preprocessor(normalize, 1e-7)


def _check_rate(fields: Mapping[str, object], file: Path) -> None:
    rate = fields.get("sampling_rate", RATE)
    if rate != RATE:
        raise CheckpointError(
            f"sampling_rate of {file} must be {RATE}: recordings are read at that rate; got {rate!r:.40}"
        )
