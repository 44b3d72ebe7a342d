"""Frozen upstreams and their hidden states, computed once for each and kept as float16 on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evaluators.tasks.data import Example
from evaluators.tasks.fit import out_of_memory
from search_spaces import AudioError, NasError, Subnet
from search_spaces.files import read_bytes
from search_spaces.types import JsonObject
from supernet import Hubert, HubertSupernet, load_extracted, load_supernet
from supernet.audio import RATE, load_audio
from supernet.layers import fingerprint
from supernet.preprocessor import Preprocessor
from supernet.store import FrameStore

__all__ = ["Frozen", "HiddenStates", "Upstream", "load_upstream"]

Samples = npt.NDArray[np.float32]


class Upstream(Protocol):
    """Turns a recording (S,) into `layers` hidden states (L, T, D) of width `dim`; `key` stands for its weights."""

    key: str
    layers: int
    dim: int
    about: JsonObject

    def __call__(self, samples: Samples) -> Tensor: ...


class Frozen:
    """A subnet as upstream: its projected input and the output of each layer."""

    def __init__(self, net: Hubert, device: str = "cpu", name: str = "subnet") -> None:
        self.net = net.to(device).eval().requires_grad_(False)
        self.device, self.key, self.prepare = device, fingerprint(net), net.prepare or Preprocessor()
        self.layers, self.dim = net.subnet.depth + 1, net.encoder.dim
        params = sum(value.numel() for value in net.parameters())
        self.about = {"model": name, "subnet": net.subnet.to_dict(), "params": params, "weights": self.key}

    @torch.no_grad()
    def __call__(self, samples: Samples) -> Tensor:
        wav = torch.from_numpy(self.prepare(samples))[None].to(self.device)
        return torch.stack(self.net(wav).hidden_states)[:, 0]


def load_upstream(
    name: Path | str,
    subnet: Subnet | None = None,
    device: str = "cpu",
    check: Callable[[HubertSupernet], None] = lambda model: None,
) -> Frozen:
    """An exported folder (`nas export --format safetensors`, `nas finetune`), or a supernet and the subnet to take.

    Without `subnet`, a supernet's largest. `check` may raise for a supernet that is not the one expected.
    """
    config = Path(name) / "config.json"
    if config.is_file() and "lighthubert-nas subnet" in read_bytes(config).decode("utf-8", "replace"):
        net = load_extracted(name)
        if subnet is not None and subnet != net.subnet:
            raise NasError(f"{name} is one exported subnet, not a supernet: leave --subnet out")
        return Frozen(net, device, str(name))
    if (Path(name) / "run.json").is_file():
        raise NasError(f"{name} is a run, not a model: write its subnet first (nas export {name} --out exported/)")
    model = load_supernet(name)
    check(model)
    return Frozen(model.extract(subnet or model.space.largest), device, str(name))


class HiddenStates:
    """Hidden states of recordings (L, T, D), or (L, 1, D) if `pooled`: their mean over time.

    A weighted sum of layers and a linear map commute with the mean over time, so that SUPERB's utterance heads need
    the means alone. Kept in `folder` by the upstream's weights, for the next task and the next run; memory holds
    what is read, no more.
    """

    def __init__(self, upstream: Upstream, pooled: bool, folder: Path) -> None:
        self.upstream, self.pooled = upstream, pooled
        shape = (upstream.layers, upstream.dim)
        self._frames = FrameStore(folder / upstream.key / "frames", shape)
        self._store = FrameStore(folder / upstream.key / "means", shape) if pooled else self._frames

    def fill(self, examples: Sequence[Example], done: Callable[[int, int], None] = lambda count, of: None) -> None:
        """Computes the missing ones; `done(count, of)` is called after each recording."""
        missing = [example for example in examples if _name(example) not in self._store]
        for count, example in enumerate(missing, 1):
            name = _name(example)
            if name in self._frames:  # of another task
                states = torch.from_numpy(self._frames[name]).float()
            else:
                states = self._heard(example).transpose(0, 1)
            half = (states.mean(0, keepdim=True) if self.pooled else states).half()
            if not torch.isfinite(half).all():
                raise AudioError(f"hidden states of '{example.id}' hold NaN or numbers beyond float16")
            self._store.add(name, half.cpu().numpy())
            done(count, len(missing))

    def _heard(self, example: Example) -> Tensor:
        samples = load_audio(example.audio)
        try:
            return self.upstream(samples).float()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            seconds = len(samples) / RATE
            raise NasError(
                f"out of memory for '{example.id}' of {seconds:.0f} s: split it, or use another device"
            ) from None

    def frames(self, example: Example) -> int:
        return self._store.frames(_name(example))

    def __getitem__(self, example: Example) -> Tensor:
        """(L, T, D) as float16."""
        return torch.from_numpy(self._store[_name(example)]).transpose(0, 1)

    def batch(self, examples: Sequence[Example], device: str = "cpu") -> tuple[Tensor, Tensor]:
        """Hidden states (L, B, T, D) as float32, zero behind each recording's end, and the lengths (B,)."""
        read = [self[example] for example in examples]
        lengths = torch.tensor([own.shape[1] for own in read])
        states = torch.zeros(self.upstream.layers, len(read), int(lengths.max()), self.upstream.dim, device=device)
        for row, own in enumerate(read):
            states[:, row, : own.shape[1]] = own.to(device)
        return states, lengths


def _name(example: Example) -> str:
    """A recording's key: its path, size and time, so that a file that changed is computed again."""
    state = example.audio.stat()
    return f"{example.audio.absolute()}|{state.st_size}|{state.st_mtime_ns}"
