"""The subnet as a traced graph for any batch size and length: torch's `.pt2`.

TorchScript is not offered: torch 2.13's documentation calls it deprecated in favour of `torch.export`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from search_spaces import Subnet
from supernet.export.base import ModelExporter, Runner
from supernet.layers import Hubert, speech_frames
from supernet.model import HubertSupernet

__all__ = ["INPUTS", "OUTPUTS", "TorchExporter", "attention_mask"]

INPUTS = ("input_values", "attention_mask")
OUTPUTS = ("last_hidden_state", "hidden_states")


class TorchExporter(ModelExporter):
    """`model.pt2`, read by `torch.export.load`."""

    loading = """
import torch

net = torch.export.load("model.pt2").module()
wav = torch.randn(2, 16_000)  # each utterance with mean 0 and variance 1, then zeros
last, hidden_states = net(wav, torch.ones(wav.shape, dtype=torch.int64))  # (B, T, D), (L + 1, B, T, D)
"""

    def write(
        self, model: HubertSupernet, subnet: Subnet, folder: Path, about: Mapping[str, object], dtype: str
    ) -> None:
        torch.export.save(_traced(model.extract(subnet)), folder / "model.pt2")

    def read(self, folder: Path, dtype: str) -> Runner:
        module = torch.export.load(folder / "model.pt2").module()

        def run(wav: Tensor, lengths: Tensor | None) -> tuple[Tensor, ...]:
            return tuple(module(wav, attention_mask(wav, lengths))[1])

        return run


def _traced(net: Hubert) -> torch.export.ExportedProgram:
    """The graph of `net`: input_values (B, S) and attention_mask (B, S) of 0 and 1 -> (B, T, D), (L + 1, B, T, D)."""
    wav = torch.randn(2, 24_000, generator=torch.Generator().manual_seed(0))
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    graph = _Graph(net.cpu()).eval()
    return torch.export.export(
        graph, (wav, attention_mask(wav, None)), dynamic_shapes=dict.fromkeys(INPUTS, sizes), strict=False
    )


def attention_mask(wav: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, S) integers: 1 for samples of speech, 0 for padding."""
    samples = torch.arange(wav.shape[1])
    return torch.ones_like(wav, dtype=torch.int64) if lengths is None else (samples < lengths[:, None]).long()


class _Graph(nn.Module):
    """`Hubert` with Hugging Face's inputs, both required, and all hidden states as one tensor, as a graph needs."""

    def __init__(self, net: Hubert) -> None:
        super().__init__()
        self.net = net

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        net = self.net
        features = net.front_end(input_values)
        samples, frames = input_values.shape[1], features.shape[1]
        mask = speech_frames(net.network, attention_mask.sum(-1), samples, frames, net.frame_rule)
        hidden = net.encoder(features, mask)
        return hidden[-1], torch.stack(hidden)
