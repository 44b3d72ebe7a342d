"""The architecture alone, in our JSON and in LightHuBERT's dict."""

from __future__ import annotations

import json
from pathlib import Path

from search_spaces import CheckFailed, Subnet
from search_spaces.types import JsonMapping
from supernet.export.base import DTYPES, Exporter
from supernet.model import HubertSupernet

__all__ = ["JsonExporter"]


class JsonExporter(Exporter):
    """`subnet.json` (ours) and `lighthubert.json` (what LightHuBERT's `set_sample_config` takes)."""

    dtypes = DTYPES

    def write(self, model: HubertSupernet, subnet: Subnet, folder: Path, about: JsonMapping, dtype: str) -> None:
        (folder / "subnet.json").write_text(subnet.to_json() + "\n", encoding="utf-8")
        foreign = subnet.to_lighthubert(model.space.network.head_dim)
        (folder / "lighthubert.json").write_text(json.dumps(foreign) + "\n", encoding="utf-8")

    def check(self, model: HubertSupernet, subnet: Subnet, folder: Path, dtype: str) -> None:
        own = Subnet.from_json((folder / "subnet.json").read_text(encoding="utf-8"))
        fields = json.loads((folder / "lighthubert.json").read_text(encoding="utf-8"))
        # LightHuBERT's dict holds FFN dims, from which a ratio such as 1.55 cannot be told: compare as dicts.
        head_dim = model.space.network.head_dim
        foreign = Subnet.from_lighthubert(fields, head_dim).to_lighthubert(head_dim)
        if own != subnet or foreign != subnet.to_lighthubert(head_dim):
            raise CheckFailed(f"the JSON read back is not subnet {subnet.id}")
