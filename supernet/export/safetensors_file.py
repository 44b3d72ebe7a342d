"""The subnet's weights as safetensors, with a config that describes its module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from search_spaces import Subnet
from supernet.export.base import ModelExporter, Runner
from supernet.extract import load_extracted, save_extracted
from supernet.layers import Hubert
from supernet.model import HubertSupernet

__all__ = ["SafetensorsExporter"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


class SafetensorsExporter(ModelExporter):
    """`model.safetensors` and `config.json`, read by `supernet.load_extracted`."""

    dtypes = tuple(_DTYPES)
    max_difference: ClassVar[Mapping[str, float]] = {"fp32": 1e-5, "fp16": 1e-2}
    loading = """
import torch
from supernet import load_extracted

net = load_extracted(".")
hidden_states = net(torch.randn(1, 16_000)).hidden_states
"""

    def write(
        self, model: HubertSupernet, subnet: Subnet, folder: Path, about: Mapping[str, object], dtype: str
    ) -> None:
        save_extracted(model.extract(subnet), folder, _DTYPES[dtype], about)

    def read(self, folder: Path, dtype: str) -> Runner:
        return _Plain(load_extracted(folder))


class _Plain:
    """`Rounded` for a plain module."""

    def __init__(self, net: Hubert) -> None:
        self.net = net

    def __call__(self, wav: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        return self.net.extract_features(wav, lengths).hidden_states

    def encode(self, features: Tensor, samples: int) -> tuple[Tensor, ...]:
        return self.net.encoder.forward(features)
