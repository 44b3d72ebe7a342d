"""The page and the PNG figures as files."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypeVar, cast

from nas.report.figures import PALETTES, Figure, figures, paint
from nas.report.html.page import page
from nas.report.html.sections import sections
from nas.report.run import RunReport, checked, read_report
from search_spaces import NasError
from search_spaces.files import write_text

__all__ = ["write_html", "write_pngs"]

Folder = str | os.PathLike[str]
T = TypeVar("T")


def write_html(folders: Sequence[Folder], path: Path) -> Path:
    """Writes the report of the run in `folders[0]`, compared with the runs in the others. Returns `path`.

    Raises `NasError` if plotly is missing, and `RunError` for a folder that holds no run.
    """
    script = _plotly_js()
    runs = _read(folders)
    plots = _figures(runs)
    with checked(folders[0]):
        body = sections(runs, plots)
    title = f"Search in {runs[0].space_name}: {runs[0].folder}"
    write_text(path, page(title, body, plots, script))
    return Path(path)


def write_pngs(folders: Sequence[Folder], out_dir: Path) -> list[Path]:
    """Writes the report's figures into `out_dir`, one PNG file each; needs Chrome or Chromium on this machine."""
    kaleido = _kaleido()
    plots = _figures(_read(folders))
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    files = [out_dir / f"{name}.png" for name in plots]
    jobs = [_png_job(figure, file) for figure, file in zip(plots.values(), files)]
    errors = import_module("kaleido.errors")
    try:
        # kaleido loads MathJax from the network by default.
        kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False}, cancel_on_error=True)
    except errors.ChromeNotFoundError:
        raise NasError(
            "PNG figures need Chrome or Chromium, and none was found: apt-get install chromium, or kaleido_get_chrome, "
            "or set BROWSER_PATH"
        ) from None
    except (errors.BrowserFailedError, errors.BrowserClosedError) as error:
        raise NasError(f"Chrome did not start, so there are no PNG figures: {error}") from None
    return files


def _plotly_js() -> str:
    try:
        return str(import_module("plotly.offline").get_plotlyjs())
    except ImportError:
        raise NasError("the HTML report needs plotly: pip install 'lighthubert-nas[report]'") from None


def _kaleido() -> ModuleType:
    try:
        import_module("plotly")  # kaleido takes plotly.js from it; without it, kaleido would download the script
        return import_module("kaleido")
    except ImportError:
        raise NasError("PNG figures need plotly and kaleido: pip install 'lighthubert-nas[report]'") from None


def _png_job(figure: Figure, file: Path) -> dict[str, object]:
    layout = figure.plot["layout"]
    margin = {"l": 24, "r": 24, "t": layout["margin"]["t"] + 50, "b": layout["margin"]["b"] + 8}
    title = {"text": html.escape(figure.title, quote=False), "yref": "container", "y": 0.97, "yanchor": "top"}
    plot = paint({**figure.plot, "layout": {**layout, "margin": margin, "title": title}}, PALETTES["light"])
    return {"fig": plot, "path": file, "opts": {"width": 900, "height": layout["height"] + 50, "scale": 2}}


def _read(folders: Sequence[Folder]) -> list[RunReport]:
    if not folders:
        raise NasError("a report needs at least one run folder; got none")
    return [_finite(read_report(folder)) for folder in folders]


def _figures(runs: Sequence[RunReport]) -> Mapping[str, Figure]:
    with checked(runs[0].folder):
        return figures(runs[0], runs[1:])


def _finite(run: RunReport) -> RunReport:
    """The run with None for NaN and infinities, which neither JSON nor a plot can hold."""
    return replace(
        run,
        effects=_finite_value(run.effects),
        trust=_finite_value(run.trust),
        hypervolume=_finite_value(run.hypervolume),
        verification=_finite_value(run.verification),
    )


def _finite_value(value: T) -> T:
    if isinstance(value, dict):
        return cast(T, {key: _finite_value(each) for key, each in value.items()})
    if isinstance(value, (list, tuple)):
        return cast(T, [_finite_value(each) for each in value])
    return cast(T, None) if isinstance(value, float) and not math.isfinite(value) else value
