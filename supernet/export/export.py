"""Writes the chosen subnet in several formats: all of them, checked, or nothing.

Every format is written into a temporary folder beside the target, read back and compared with the supernet's slice.
Only then is the folder renamed to the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from search_spaces import NasError, Subnet
from search_spaces.files import new_folder
from supernet.export.base import DTYPES, Exporter, ModelExporter, Rounded
from supernet.export.card import card
from supernet.export.formats import EXPORTERS, get_exporter
from supernet.export.onnx_file import OnnxExporter
from supernet.model import HubertSupernet

__all__ = ["export_subnet"]


def export_subnet(
    model: HubertSupernet,
    subnet: Subnet,
    folder: Path | str,
    formats: Sequence[str],
    about: Mapping[str, object],
    dtype: str = "fp32",
    score: Callable[[Rounded], float] | None = None,
    opset: int | None = None,
) -> list[Path]:
    """Writes `subnet` in every format into `folder`, which must be new or empty; returns the files, all checked.

    `about`: more facts for the model card (card.py). `score`: computed on the exports whose weights are rounded, for
    the card too. `opset`: of ONNX files.
    Raises `CheckFailed` if what was read back differs from the supernet's slice; then `folder` is left as it was.
    """
    folder = Path(folder)
    exporters = _exporters(formats, dtype, opset)
    model.space.check(subnet)
    with new_folder(folder) as written:
        scores = _write(exporters, model, subnet, written, about, dtype, score)
        _write_cards(written, model, subnet, formats=list(exporters), about=about, dtype=dtype, scores=scores)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _exporters(formats: Sequence[str], dtype: str, opset: int | None) -> dict[str, Exporter]:
    """The exporters by format. Raises `NasError` for unknown formats and dtypes, and those that do not fit."""
    exporters = {name: get_exporter(name) for name in formats}
    if not exporters:
        raise NasError(f"no export format; known: {', '.join(EXPORTERS)}")
    if dtype not in DTYPES:
        raise NasError(f"unknown dtype '{dtype}'; known: {', '.join(DTYPES)}")
    for name, exporter in exporters.items():
        if dtype not in exporter.dtypes:
            raise NasError(f"format '{name}' is written in {', '.join(exporter.dtypes)} only; got dtype '{dtype}'")
    if opset is not None:
        onnx = exporters.get("onnx")
        if not isinstance(onnx, OnnxExporter):
            raise NasError("--opset has no effect without the format onnx")
        onnx.set_opset(opset)
    return exporters


def _write(
    exporters: Mapping[str, Exporter],
    model: HubertSupernet,
    subnet: Subnet,
    folder: Path,
    about: Mapping[str, object],
    dtype: str,
    score: Callable[[Rounded], float] | None,
) -> dict[str, float]:
    """Writes and checks every format; returns the scores of those whose weights are rounded."""
    scores = {}
    for name, exporter in exporters.items():
        exporter.write(model, subnet, folder, about, dtype)
        exporter.check(model, subnet, folder, dtype)
        if score is not None and dtype != "fp32" and isinstance(exporter, ModelExporter):
            scores[name] = score(cast(Rounded, exporter.read(folder, dtype)))
    return scores


def _write_cards(
    folder: Path,
    model: HubertSupernet,
    subnet: Subnet,
    *,
    formats: Sequence[str],
    about: Mapping[str, object],
    dtype: str,
    scores: Mapping[str, float],
) -> None:
    """README.md, and one more in each format's own folder, which may be copied without the rest."""
    (folder / "README.md").write_text(card(model, subnet, formats, about, dtype, scores), encoding="utf-8")
    for name in formats:
        if (folder / name).is_dir():
            text = card(model, subnet, [name], about, dtype, scores, inside=True)
            (folder / name / "README.md").write_text(text, encoding="utf-8")
