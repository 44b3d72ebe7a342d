"""What every format has in common: write a subnet, read it back, compare it with the supernet's slice."""

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
from supernet.layers import frame_mask
from supernet.model import HubertSupernet

__all__ = [
    "DTYPES",
    "Exporter",
    "LIBRARY",
    "ModelExporter",
    "Rounded",
    "Runner",
    "TASK",
    "largest_difference",
    "require",
]

DTYPES = ("fp32", "fp16", "int8")
LIBRARY, TASK = "lighthubert-nas", "feature-extraction"
Runner = Callable[[Tensor, "Tensor | None"], Sequence[Tensor]]
"""An export that was read back: wav (B, S), lengths (B,) in samples or None -> hidden states, each (B, T, D)."""


class Rounded(Protocol):
    """The runner of a format that rounds its weights, which can be scored from calibration features too."""

    def __call__(self, wav: Tensor, lengths: Tensor | None = None) -> Sequence[Tensor]:
        """The hidden states of wav (B, S)."""
        ...

    def encode(self, features: Tensor, samples: int) -> Sequence[Tensor]:
        """The hidden states of front-end features (1, T, C), which come from `samples` samples."""
        ...


class Exporter(ABC):
    """One format. `export_subnet` calls `write`, then `check`, which reads back what was written.

    The first line of a subclass's docstring is its description in `nas export --list`.
    """

    dtypes: ClassVar[tuple[str, ...]] = ("fp32",)
    loading: ClassVar[str] = ""
    """Python code for the model card that loads the export from the folder of the card, as a template of `str.format`.

    `{folder}`: the format's own folder, `{supernet!r}`: the supernet's name; more are added by `loading_fields`.
    """
    note: ClassVar[str] = ""
    """A sentence for the model card, above the code."""

    @abstractmethod
    def write(
        self, model: HubertSupernet, subnet: Subnet, folder: Path, about: Mapping[str, object], dtype: str
    ) -> None:
        """Writes the format's files into `folder`, which other formats may share."""

    @abstractmethod
    def check(self, model: HubertSupernet, subnet: Subnet, folder: Path, dtype: str) -> None:
        """Raises `CheckFailed` if what is read back is not the supernet's subnet."""

    def library(self, model: HubertSupernet, subnet: Subnet) -> tuple[str, str]:
        """The library and the task of the format's own folder, in the words of the Hugging Face Hub."""
        return LIBRARY, TASK

    def loading_fields(self, model: HubertSupernet, subnet: Subnet) -> Mapping[str, object]:
        """More values for the template `loading`."""
        return {}


class ModelExporter(Exporter):
    """A format that holds weights: what is read back runs, and its hidden states are compared with the slice's."""

    max_difference: ClassVar[Mapping[str, float]] = {"fp32": 3e-5}
    """By dtype, the largest difference from the slice that passes, relative to the hidden state's largest value."""
    max_of_regression: ClassVar[float] = 0.0
    """The same for slices that keep the regression of what is dropped, if it is more."""
    frame_rule: ClassVar[str | None] = None
    """The rule for frames of padding (`layers.speech_frames`), if the format has one of its own."""
    first_state: ClassVar[int] = 0
    """The first hidden state that the format defines as we do."""

    @abstractmethod
    def read(self, folder: Path, dtype: str) -> Runner:
        """What was written, loaded as users of the format load it."""

    def check(self, model: HubertSupernet, subnet: Subnet, folder: Path, dtype: str) -> None:
        difference = largest_difference(model, subnet, self.read(folder, dtype), self.frame_rule, self.first_state)
        allowed = self.max_difference[dtype]
        if model.compensation == "regression":
            allowed = max(allowed, self.max_of_regression)
        if not difference < allowed:
            raise CheckFailed(
                f"the exported subnet {subnet.id} differs from the supernet's slice by {difference:.1e} (relative; "
                f"allowed: {allowed:.0e})"
            )


@torch.no_grad()
def largest_difference(
    model: HubertSupernet, subnet: Subnet, run: Runner, frame_rule: str | None = None, first: int = 0
) -> float:
    """Largest difference of any hidden state from `first` on, relative to its largest value, on noise.

    The inputs are 3 s alone (less if the network cannot hear as much), and a padded batch of 1.5 and 0.9 s, normalised
    as by a feature extractor. A hidden state that is not finite makes the difference infinite.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    differences = []
    longest = model.space.network.max_samples or 48_000
    for sizes in ((min(48_000, longest),), (24_000, 15_000)):
        waves = [torch.randn(size, generator=generator) for size in sizes]
        wav = pad_sequence([F.layer_norm(wave, wave.shape) for wave in waves], batch_first=True)
        lengths = torch.tensor(sizes) if len(sizes) > 1 else None
        features = model.features(wav.to(device), subnet.front_end)
        rule = frame_rule or model.frame_rule
        mask = frame_mask(model.space.network, lengths, wav.shape[1], features.shape[1], rule)
        with model.active(subnet):
            ours = model.encode(features, None if mask is None else mask.to(device)).hidden_states
        theirs = run(wav, lengths)
        for a, b in zip(ours[first:], theirs[first:], strict=True):
            differences.append(float((a.cpu() - b).abs().max() / a.abs().max()))
    return max(d if math.isfinite(d) else math.inf for d in differences)  # max ignores NaN


def require(form: str, extra: str, *modules: str) -> None:
    """Raises `NasError` naming the extra to install if one of `modules` is missing."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            raise NasError(f"format '{form}' needs {module}: pip install 'lighthubert-nas[{extra}]'") from None
