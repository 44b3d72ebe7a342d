"""The chosen subnet as files.

formats.py           EXPORTERS: a name for each format, extended by entry points
export.py            export_subnet: write, read back, compare, put in place
card.py              README.md: what the subnet is, and how each format is loaded
base.py              what every format has in common
json_file.py         the architecture alone
safetensors_file.py  weights and config for `supernet.load_extracted`
onnx_file.py         ONNX in float32, float16 or int8
onnx_parts.py        the ONNX graph of a subnet, joined from graphs of its parts
torch_export.py      torch's .pt2
hugging_face.py      a folder for AutoModel; modeling_subnet.py is its code if the layers differ in size
s3prl_folder.py      an upstream for s3prl; s3prl_expert.py is its code
lighthubert_file.py  a checkpoint for LightHuBERT's own code

The table of names is there without torch, which the rest is imported with on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from supernet.export.formats import EXPORTERS, get_exporter

if TYPE_CHECKING:
    from supernet.export.base import DTYPES, Exporter
    from supernet.export.export import export_subnet

__all__ = ["DTYPES", "EXPORTERS", "Exporter", "export_subnet", "get_exporter"]

_MODULES = {"DTYPES": "base", "Exporter": "base", "export_subnet": "export"}

if not TYPE_CHECKING:  # type checkers see the imports above, and report names that do not exist

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
