"""The supernet as LightHuBERT's own code loads it, with the subnet to set: for supernets that came from there."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from search_spaces import NasError, Subnet
from search_spaces.types import JsonMapping
from supernet.checkpoint import load_supernet
from supernet.export.base import ModelExporter, Runner
from supernet.foreign import lighthubert_weights
from supernet.model import HubertSupernet

__all__ = ["LightHubertExporter"]


class LightHubertExporter(ModelExporter):
    """`lighthubert.pt` (the whole supernet: LightHuBERT slices it itself) and `lighthubert.json` (the subnet)."""

    def write(self, model: HubertSupernet, subnet: Subnet, folder: Path, about: JsonMapping, dtype: str) -> None:
        source = str(model.provenance.get("source", ""))
        if not source.startswith("LightHuBERT"):
            raise NasError(
                f"format 'lighthubert' is for supernets that came from LightHuBERT's checkpoints; "
                f"this one came from {source or 'elsewhere'}: use safetensors, onnx, hf or s3prl"
            )
        size = "small" if source == "LightHuBERT small" else "base"
        kind = "student_hubert" if "stage 1" in source else "hubert_pruner"
        settings = {"_name": kind, "pruner_supernet": f"{size}.yaml", "extractor_mode": "default"}
        torch.save({"cfg": {"model": settings}, "model": lighthubert_weights(model)}, folder / "lighthubert.pt")
        foreign = subnet.to_lighthubert(model.space.network.head_dim)
        (folder / "lighthubert.json").write_text(json.dumps(foreign) + "\n", encoding="utf-8")

    def read(self, folder: Path, dtype: str) -> Runner:
        model = load_supernet(folder / "lighthubert.pt")
        subnet = Subnet.from_lighthubert(json.loads((folder / "lighthubert.json").read_text(encoding="utf-8")))

        def run(wav: Tensor, lengths: Tensor | None) -> tuple[Tensor, ...]:
            with model.active(subnet):
                hidden: tuple[Tensor, ...] = model(wav, lengths).hidden_states
                return hidden

        return run
