"""What every format has in common: it writes a subnet, reads it back and compares it with the supernet's slice."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from search_spaces import CheckFailed, NasError, Subnet
from supernet.model import HubertSupernet

__all__ = ["DTYPES", "Exporter", "ModelExporter", "Runner", "largest_difference", "require"]

DTYPES = ("fp32", "fp16", "int8")
Runner = Callable[[Tensor, "Tensor | None"], Sequence[Tensor]]
"""An export that was read back: wav (B, S), lengths (B,) in samples or None -> hidden states, each (B, T, D)."""


class Exporter(ABC):
    """One format. `export_subnet` calls `write`, then `check`, which reads back what was written."""

    dtypes: ClassVar[tuple[str, ...]] = ("fp32",)

    @abstractmethod
    def write(self, model: HubertSupernet, subnet: Subnet, folder: Path, about: Mapping[str, Any], dtype: str) -> None:
        """Writes the format's files into `folder`, which other formats may share."""

    @abstractmethod
    def check(self, model: HubertSupernet, subnet: Subnet, folder: Path, dtype: str) -> None:
        """Raises `CheckFailed` where what is read back is not the supernet's subnet."""


class ModelExporter(Exporter):
    """A format with weights in it: what is read back runs, and is compared."""

    most: ClassVar[Mapping[str, float]] = {"fp32": 1e-5}
    """Largest difference from the slice that is let through, relative to the largest value of a hidden state."""
    padded_frames: ClassVar[bool] = True
    """Whether what stands in frames of padding is compared too."""

    @abstractmethod
    def read(self, folder: Path, dtype: str) -> Runner:
        """What was written, in the way that its users load it."""

    def check(self, model: HubertSupernet, subnet: Subnet, folder: Path, dtype: str) -> None:
        difference = largest_difference(model, subnet, self.read(folder, dtype), self.padded_frames)
        if not difference < self.most[dtype]:
            raise CheckFailed(
                f"the exported subnet {subnet.id} differs from the supernet's slice by {difference:.1e} (relative; "
                f"allowed: {self.most[dtype]:.0e})"
            )


@torch.no_grad()
def largest_difference(model: HubertSupernet, subnet: Subnet, run: Runner, padded_frames: bool = True) -> float:
    """Largest difference of any hidden state, relative to its largest value, on noise of two lengths.

    Once three seconds alone, once a padded batch of 1.5 and 0.9 s.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    differences = []
    for lengths in (torch.tensor([48_000]), torch.tensor([24_000, 15_000])):
        samples = int(lengths.max())
        wav = torch.randn(len(lengths), samples, generator=generator) * (torch.arange(samples) < lengths[:, None])
        given = lengths if len(lengths) > 1 else None
        with model.active(subnet):
            ours = model(wav.to(device), None if given is None else given.to(device))
        theirs = run(wav, given)
        keep = ... if padded_frames or ours.mask is None else ours.mask.cpu()
        for a, b in zip(ours.hidden_states, theirs, strict=True):
            expected = a.cpu()[keep]
            differences.append(float((expected - b[keep]).abs().max() / expected.abs().max()))
    return max(d if math.isfinite(d) else math.inf for d in differences)  # max alone passes over NaN


def require(form: str, extra: str, *modules: str) -> None:
    """Raises `NasError` naming the extra where one of `modules` is not installed."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            raise NasError(f"format '{form}' needs {module}: pip install 'lighthubert-nas[{extra}]'") from None
