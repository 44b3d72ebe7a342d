"""The chosen subnet as files: one file a format, and one line of `EXPORTERS`.

Nothing is left half-written: every format is written into a folder beside the target, read back and compared with
the supernet's slice, and only then moved into place.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from search_spaces import NasError, RunError, Subnet
from search_spaces.registry import Registry
from search_spaces.types import JsonMapping
from supernet.export.base import DTYPES, Exporter, ModelExporter, Rounded
from supernet.export.card import card
from supernet.model import HubertSupernet

__all__ = ["DTYPES", "EXPORTERS", "Exporter", "export_subnet", "get_exporter"]

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
    """The exporter of this name. Raises `NasError` listing the known ones."""
    return cast(type[Exporter], EXPORTERS.load(name))()


def export_subnet(
    model: HubertSupernet,
    subnet: Subnet,
    folder: Path | str,
    formats: Sequence[str],
    about: JsonMapping,
    dtype: str = "fp32",
    score: Callable[[Rounded], float] | None = None,
) -> list[Path]:
    """Writes `subnet` in every format into `folder`, which must be new or empty; the files, each checked.

    `about` is what else the model card says (card.py); `score` is measured on the exports that round their weights,
    for the card too. Raises `CheckFailed` where what was read back differs from the supernet's slice; then nothing is
    left.
    """
    folder = Path(folder)
    exporters = {name: get_exporter(name) for name in formats}
    if not exporters:
        raise NasError(f"no export format given; known: {', '.join(EXPORTERS)}")
    if dtype not in DTYPES:
        raise NasError(f"unknown dtype '{dtype}'; known: {', '.join(DTYPES)}")
    for name, exporter in exporters.items():
        if dtype not in exporter.dtypes:
            raise NasError(f"format '{name}' is written in {', '.join(exporter.dtypes)} only; got dtype '{dtype}'")
    model.space.check(subnet)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is not empty: give a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        written = Path(scratch) / "export"  # inside, since a temporary folder is for its owner's eyes only
        written.mkdir()
        scores = {}
        for name, exporter in exporters.items():
            exporter.write(model, subnet, written, about, dtype)
            exporter.check(model, subnet, written, dtype)
            if score is not None and dtype != "fp32" and isinstance(exporter, ModelExporter):
                scores[name] = score(cast(Rounded, exporter.read(written, dtype)))
        _write_cards(written, model, subnet, list(exporters), about, dtype, scores)
        if not folder.exists():
            written.replace(folder)
        else:  # it may be a mount, or somebody's working directory: fill it
            for file in sorted(written.iterdir()):
                shutil.move(file, folder / file.name)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _write_cards(
    folder: Path,
    model: HubertSupernet,
    subnet: Subnet,
    formats: Sequence[str],
    about: JsonMapping,
    dtype: str,
    scores: Mapping[str, float],
) -> None:
    """README.md, and one in each folder that a format has to itself, since it may be taken away alone."""
    (folder / "README.md").write_text(card(model, subnet, formats, about, dtype, scores), encoding="utf-8")
    for name in formats:
        if (folder / name).is_dir():
            text = card(model, subnet, [name], about, dtype, scores, inside=True)
            (folder / name / "README.md").write_text(text, encoding="utf-8")
