"""Supernets on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from supernet.model import HubertSupernet

__all__ = ["save_supernet"]

FORMAT = "lighthubert-nas supernet 1"


def save_supernet(model: HubertSupernet, folder: Path | str, dtype: torch.dtype = torch.float32) -> Path:
    """Writes `model.safetensors` and `config.json` (space, heads, provenance) into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": FORMAT,
        "space": model.space.to_dict(),
        "head_layers": list(model.head_layers),
        "head_dim": model.head_dim,
        "frame_rule": model.frame_rule,
        "provenance": model.provenance,
    }
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()}
    partial = folder / ".model.safetensors.partial"
    save_file(weights, partial, metadata={"format": "pt"})
    os.replace(partial, folder / "model.safetensors")
    text = folder / ".config.json.partial"
    text.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    os.replace(text, folder / "config.json")
    return folder
