"""The supernet as LightHuBERT's own code loads it, and the subnet to select: for supernets that came from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from search_spaces import NasError, Subnet
from supernet.checkpoint import load_supernet
from supernet.export.base import ModelExporter, Runner
from supernet.foreign import lighthubert_weights
from supernet.model import HubertSupernet

__all__ = ["LightHubertExporter"]


class LightHubertExporter(ModelExporter):
    """`lighthubert.pt` (the whole supernet: LightHuBERT slices it itself) and `lighthubert.json` (the subnet)."""

    loading = """
import json
import torch
from s3prl.upstream.lighthubert.lighthubert import LightHuBERT, LightHuBERTConfig

checkpoint = torch.load("lighthubert.pt", weights_only=True)
config = LightHuBERTConfig(checkpoint["cfg"]["model"])
config.supernet_type = {supernet_type!r}
model = LightHuBERT(config)
model.load_state_dict(checkpoint["model"], strict=False)
model.set_sample_config(json.load(open("lighthubert.json")))
hidden_states = model.eval().extract_features(torch.randn(1, 16_000), ret_hs=True)[0]
"""
    note = "The whole supernet, which LightHuBERT's code slices itself. Waveforms are normalised as above."

    def write(
        self, model: HubertSupernet, subnet: Subnet, folder: Path, about: Mapping[str, object], dtype: str
    ) -> None:
        source = str(model.provenance.get("source", ""))
        if not source.startswith("LightHuBERT"):
            raise NasError(
                f"format 'lighthubert' is for supernets that came from LightHuBERT's checkpoints; "
                f"this one came from {source or 'elsewhere'}: use safetensors, onnx, hf or s3prl"
            )
        if model.compensation != "none":
            raise NasError(
                "format 'lighthubert' is for supernets that LightHuBERT's code can slice; this one keeps the "
                f"{model.compensation} of what is dropped (nas convert --audio): use safetensors, onnx, hf or s3prl"
            )
        size = "small" if source == "LightHuBERT small" else "base"
        kind = "student_hubert" if "stage 1" in source else "hubert_pruner"
        settings = {"_name": kind, "pruner_supernet": f"{size}.yaml", "extractor_mode": "default"}
        torch.save({"cfg": {"model": settings}, "model": lighthubert_weights(model)}, folder / "lighthubert.pt")
        foreign = subnet.to_lighthubert(model.space.network.head_dim)
        (folder / "lighthubert.json").write_text(json.dumps(foreign) + "\n", encoding="utf-8")

    def loading_fields(self, model: HubertSupernet, subnet: Subnet) -> Mapping[str, object]:
        return {"supernet_type": model.space.name.removeprefix("lighthubert-")}

    def read(self, folder: Path, dtype: str) -> Runner:
        model = load_supernet(folder / "lighthubert.pt")
        subnet = Subnet.from_lighthubert(json.loads((folder / "lighthubert.json").read_text(encoding="utf-8")))

        def run(wav: Tensor, lengths: Tensor | None) -> tuple[Tensor, ...]:
            with model.active(subnet):
                hidden: tuple[Tensor, ...] = model(wav, lengths).hidden_states
                return hidden

        return run
