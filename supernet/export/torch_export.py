"""The subnet as a traced graph of any batch and length: torch's `.pt2`, and what ONNX is made from.

TorchScript is not among the formats: torch 2.13's documentation calls it deprecated, in favour of `torch.export`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from search_spaces import Subnet
from search_spaces.types import JsonMapping
from supernet.export.base import ModelExporter, Runner
from supernet.layers import Hubert, speech_frames
from supernet.model import HubertSupernet

__all__ = ["INPUTS", "OUTPUTS", "TorchExporter", "attention_mask", "traced"]

INPUTS = ("input_values", "attention_mask")
OUTPUTS = ("last_hidden_state", "hidden_states")


class TorchExporter(ModelExporter):
    """`model.pt2`, read by `torch.export.load`."""

    def write(self, model: HubertSupernet, subnet: Subnet, folder: Path, about: JsonMapping, dtype: str) -> None:
        torch.export.save(traced(model.extract(subnet)), folder / "model.pt2")

    def read(self, folder: Path, dtype: str) -> Runner:
        module = torch.export.load(folder / "model.pt2").module()

        def run(wav: Tensor, lengths: Tensor | None) -> tuple[Tensor, ...]:
            return tuple(module(wav, attention_mask(wav, lengths))[1])

        return run


def traced(net: Hubert) -> torch.export.ExportedProgram:
    """The graph of `net`: input_values (B, S) and attention_mask (B, S) of 0 and 1 -> (B, T, D), (L + 1, B, T, D)."""
    wav = torch.randn(2, 24_000, generator=torch.Generator().manual_seed(0))
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    graph = _Graph(net.cpu()).eval()
    return torch.export.export(
        graph, (wav, attention_mask(wav, None)), dynamic_shapes=dict.fromkeys(INPUTS, sizes), strict=False
    )


def attention_mask(wav: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, S) of whole numbers: 1 where speech, 0 where padding."""
    samples = torch.arange(wav.shape[1])
    return torch.ones_like(wav, dtype=torch.int64) if lengths is None else (samples < lengths[:, None]).long()


class _Graph(nn.Module):
    """`Hubert` with Hugging Face's inputs, and all hidden states as one tensor: a graph has no optional ones."""

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
