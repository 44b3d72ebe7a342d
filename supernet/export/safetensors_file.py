"""The subnet's weights as safetensors, with a config that describes its module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from search_spaces import CheckFailed, Subnet
from supernet.extract import load_extracted, save_extracted
from supernet.model import HubertSupernet

__all__ = ["SafetensorsExporter", "largest_difference"]

MOST = 1e-5


class SafetensorsExporter:
    """`model.safetensors` and `config.json`, read by `supernet.load_extracted`."""

    def write(self, model: HubertSupernet, subnet: Subnet, folder: Path, about: Mapping[str, Any]) -> None:
        save_extracted(model.extract(subnet), folder, about=about)

    def check(self, model: HubertSupernet, subnet: Subnet, folder: Path) -> None:
        difference = largest_difference(model, subnet, load_extracted(folder))
        if not difference < MOST:
            raise CheckFailed(
                f"the exported subnet {subnet.id} differs from the supernet's slice by {difference:.1e} (relative; "
                f"allowed: {MOST:.0e})"
            )


@torch.no_grad()
def largest_difference(model: HubertSupernet, subnet: Subnet, net: torch.nn.Module) -> float:
    """Largest difference of any hidden state, relative to its largest value, on padded and unpadded noise."""
    device = next(model.parameters()).device
    wav = torch.randn(2, 24_000, generator=torch.Generator().manual_seed(0))
    differences = []
    for lengths in (None, torch.tensor([24_000, 15_000])):
        if lengths is not None:
            wav = wav * (torch.arange(24_000) < lengths[:, None])
        with model.active(subnet):
            ours = model(wav.to(device), None if lengths is None else lengths.to(device))
        theirs = net(wav, lengths)
        for a, b in zip(ours.hidden_states, theirs.hidden_states, strict=True):
            differences.append(float((a.cpu() - b).abs().max() / a.abs().max()))
    return max(d if math.isfinite(d) else math.inf for d in differences)  # max alone passes over NaN
