"""What every format has in common: it writes a subnet, reads it back and compares it with the supernet's slice."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from search_spaces import CheckFailed, NasError, Subnet
from search_spaces.types import JsonMapping
from supernet.layers import frame_mask
from supernet.model import HubertSupernet

__all__ = ["DTYPES", "Exporter", "ModelExporter", "Rounded", "Runner", "largest_difference", "require"]

DTYPES = ("fp32", "fp16", "int8")
Runner = Callable[[Tensor, "Tensor | None"], Sequence[Tensor]]
"""An export that was read back: wav (B, S), lengths (B,) in samples or None -> hidden states, each (B, T, D)."""


class Rounded(Protocol):
    """The runner of a format that rounds its weights: it runs from front-end features (1, T, C) too, to be scored.

    `samples`: how many the features were made from.
    """

    def __call__(self, wav: Tensor, lengths: Tensor | None = None) -> Sequence[Tensor]: ...

    def encode(self, features: Tensor, samples: int) -> Sequence[Tensor]: ...


class Exporter(ABC):
    """One format. `export_subnet` calls `write`, then `check`, which reads back what was written."""

    dtypes: ClassVar[tuple[str, ...]] = ("fp32",)

    @abstractmethod
    def write(self, model: HubertSupernet, subnet: Subnet, folder: Path, about: JsonMapping, dtype: str) -> None:
        """Writes the format's files into `folder`, which other formats may share."""

    @abstractmethod
    def check(self, model: HubertSupernet, subnet: Subnet, folder: Path, dtype: str) -> None:
        """Raises `CheckFailed` where what is read back is not the supernet's subnet."""


class ModelExporter(Exporter):
    """A format with weights in it: what is read back runs, and is compared."""

    most: ClassVar[Mapping[str, float]] = {"fp32": 1e-5}
    """Largest difference from the slice that is let through, relative to the largest value of a hidden state."""
    frame_rule: ClassVar[str | None] = None
    """How frames of padding are told, where the format has a rule of its own (`layers.speech_frames`)."""
    first: ClassVar[int] = 0
    """The first hidden state that the format gives as we do."""

    @abstractmethod
    def read(self, folder: Path, dtype: str) -> Runner:
        """What was written, in the way that its users load it."""

    def check(self, model: HubertSupernet, subnet: Subnet, folder: Path, dtype: str) -> None:
        difference = largest_difference(model, subnet, self.read(folder, dtype), self.frame_rule, self.first)
        if not difference < self.most[dtype]:
            raise CheckFailed(
                f"the exported subnet {subnet.id} differs from the supernet's slice by {difference:.1e} (relative; "
                f"allowed: {self.most[dtype]:.0e})"
            )


@torch.no_grad()
def largest_difference(
    model: HubertSupernet, subnet: Subnet, run: Runner, frame_rule: str | None = None, first: int = 0
) -> float:
    """Largest difference of any hidden state, relative to its largest value, on noise.

    Once three seconds alone, once a padded batch of 1.5 and 0.9 s, each normalised as a feature extractor does.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    differences = []
    for sizes in ((48_000,), (24_000, 15_000)):
        waves = [torch.randn(size, generator=generator) for size in sizes]
        wav = pad_sequence([F.layer_norm(wave, wave.shape) for wave in waves], batch_first=True)
        lengths = torch.tensor(sizes) if len(sizes) > 1 else None
        features = model.front_end(wav.to(device))
        rule = frame_rule or model.frame_rule
        mask = frame_mask(model.space.network, lengths, wav.shape[1], features.shape[1], rule)
        with model.active(subnet):
            ours = model.encode(features, None if mask is None else mask.to(device)).hidden_states
        theirs = run(wav, lengths)
        for a, b in zip(ours[first:], theirs[first:], strict=True):
            differences.append(float((a.cpu() - b).abs().max() / a.abs().max()))
    return max(d if math.isfinite(d) else math.inf for d in differences)  # max alone passes over NaN


def require(form: str, extra: str, *modules: str) -> None:
    """Raises `NasError` naming the extra where one of `modules` is not installed."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            raise NasError(f"format '{form}' needs {module}: pip install 'lighthubert-nas[{extra}]'") from None
