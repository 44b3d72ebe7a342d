"""The subnet's weights as safetensors, with a config that describes its module."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from search_spaces import Subnet
from search_spaces.types import JsonMapping
from supernet.export.base import ModelExporter, Runner
from supernet.extract import load_extracted, save_extracted
from supernet.layers import Hubert
from supernet.model import HubertSupernet

__all__ = ["SafetensorsExporter"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


class SafetensorsExporter(ModelExporter):
    """`model.safetensors` and `config.json`, read by `supernet.load_extracted`."""

    dtypes = tuple(_DTYPES)
    most = {"fp32": 1e-5, "fp16": 1e-2}  # noqa: RUF012

    def write(self, model: HubertSupernet, subnet: Subnet, folder: Path, about: JsonMapping, dtype: str) -> None:
        save_extracted(model.extract(subnet), folder, _DTYPES[dtype], about)

    def read(self, folder: Path, dtype: str) -> Runner:
        return _Plain(load_extracted(folder))


class _Plain:
    def __init__(self, net: Hubert) -> None:
        self.net = net

    def __call__(self, wav: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        return self.net.extract_features(wav, lengths).hidden_states

    def encode(self, features: Tensor, samples: int) -> tuple[Tensor, ...]:
        return self.net.encoder.forward(features)
