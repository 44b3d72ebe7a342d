"""The table of export formats. A format is one file and one line here, or an entry point of another package.

Importing this does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces import NasError
from search_spaces.registry import Registry

if TYPE_CHECKING:
    from supernet.export.base import Exporter

__all__ = ["EXPORTERS", "get_exporter"]

EXPORTERS = Registry(
    "export format",
    "lighthubert_nas.exporters",
    {
        "json": "supernet.export.json_file:JsonExporter",
        "safetensors": "supernet.export.safetensors_file:SafetensorsExporter",
        "onnx": "supernet.export.onnx_file:OnnxExporter",
        "torch-export": "supernet.export.torch_export:TorchExporter",
        "hf": "supernet.export.hugging_face:HuggingFaceExporter",
        "s3prl": "supernet.export.s3prl_folder:S3prlExporter",
        "lighthubert": "supernet.export.lighthubert_file:LightHubertExporter",
    },
)


def get_exporter(name: str) -> Exporter:
    """The exporter of this name. Raises `NasError` listing the known names."""
    from supernet.export.base import Exporter

    kind = EXPORTERS.load(name)
    if not (isinstance(kind, type) and issubclass(kind, Exporter)):
        raise NasError(f"export format '{name}' must be a subclass of supernet.export.Exporter; got {kind!r}")
    return kind()
