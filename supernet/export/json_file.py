"""The architecture alone, in our JSON and in LightHuBERT's dict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from search_spaces import CheckFailed, Subnet
from supernet.export.base import DTYPES, Exporter
from supernet.model import HubertSupernet

__all__ = ["JsonExporter"]


class JsonExporter(Exporter):
    """`subnet.json` (ours) and, if LightHuBERT's `set_sample_config` can express the subnet, `lighthubert.json`."""

    dtypes = DTYPES
    loading = """
import json
from search_spaces import Subnet
from supernet import extract_subnet, load_supernet

subnet = Subnet.from_json(open("subnet.json").read())
net = extract_subnet(load_supernet({supernet!r}), subnet)
{lighthubert}
"""
    note = "The architecture alone; its weights are in the supernet."

    def write(
        self, model: HubertSupernet, subnet: Subnet, folder: Path, about: Mapping[str, object], dtype: str
    ) -> None:
        (folder / "subnet.json").write_text(subnet.to_json() + "\n", encoding="utf-8")
        if _expressible(subnet):
            foreign = subnet.to_lighthubert(model.space.network.head_dim)
            (folder / "lighthubert.json").write_text(json.dumps(foreign) + "\n", encoding="utf-8")

    def loading_fields(self, model: HubertSupernet, subnet: Subnet) -> Mapping[str, object]:
        line = 'LIGHTHUBERT = json.load(open("lighthubert.json"))  # for LightHuBERT\'s set_sample_config'
        return {"lighthubert": line if _expressible(subnet) else ""}

    def check(self, model: HubertSupernet, subnet: Subnet, folder: Path, dtype: str) -> None:
        own = Subnet.from_json((folder / "subnet.json").read_text(encoding="utf-8"))
        if not _expressible(subnet):
            if own != subnet:
                raise CheckFailed(f"the JSON read back is not subnet {subnet.id}")
            return
        fields = json.loads((folder / "lighthubert.json").read_text(encoding="utf-8"))
        # LightHuBERT's dict holds FFN dims, which do not determine a ratio such as 1.55: compare dicts.
        head_dim = model.space.network.head_dim
        foreign = Subnet.from_lighthubert(fields, head_dim).to_lighthubert(head_dim)
        if own != subnet or foreign != subnet.to_lighthubert(head_dim):
            raise CheckFailed(f"the JSON read back is not subnet {subnet.id}")


def _expressible(subnet: Subnet) -> bool:
    """Whether LightHuBERT's dict can say what the subnet is."""
    return not subnet.front_end and all((*subnet.heads, *subnet.ffn_dims))
