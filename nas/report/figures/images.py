"""The figures of a run as PNG and SVG files, drawn by plotly in Chrome."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from nas.report.figures import Figure, figures
from nas.report.figures.base import PALETTES, paint, wrapped
from nas.report.run import Folder, checked, read_reports
from nas.runs.ledger import Evaluation
from search_spaces import NasError
from search_spaces.files import read_bytes, write_bytes

__all__ = ["write_front", "write_images"]

_WIDTH = 480  # pixels at 13 px type, which can still be read where a page shows the image at the width of a phone
_SUFFIXES = (".png", ".svg")


def write_images(folders: Sequence[Folder], out_dir: Path, kind: str, largest: Evaluation | None = None) -> list[Path]:
    """Writes the report's figures into `out_dir`, one file each of the kind "png" or "svg".

    `largest` is that of `write_html`. Needs Chrome or Chromium on this machine.
    """
    return _write({Path(out_dir) / f"{name}.{kind}": figure for name, figure in _figures(folders, largest).items()})


def write_front(folders: Sequence[Folder], file: Path, largest: Evaluation | None = None) -> Path:
    """Writes the first figure of the report, score against the cost of the front, as the SVG or PNG `file`.

    Raises `NasError` for a run without a front.
    """
    if file.suffix not in _SUFFIXES:
        raise NasError(f"the front is written to a {' or '.join(_SUFFIXES)} file; got {file}")
    fronts = [figure for name, figure in _figures(folders, largest).items() if name.startswith("front-")]
    if not fronts:
        raise NasError(f"{folders[0]} has no front: it needs a cost and a subnet that was scored")
    return _write({file: fronts[0]})[0]


def _figures(folders: Sequence[Folder], largest: Evaluation | None) -> dict[str, Figure]:
    runs = read_reports(folders, largest)
    with checked(folders[0]):
        return figures(runs[0], runs[1:])


def _write(plots: Mapping[Path, Figure]) -> list[Path]:
    """Draws all figures in one browser, then puts the files in place."""
    kaleido = _kaleido()
    with TemporaryDirectory() as scratch:
        drawn = {file: Path(scratch) / file.name for file in plots}
        _draw(kaleido, [_job(plots[file], drawn[file]) for file in plots])
        for file, figure in plots.items():
            data = read_bytes(drawn[file])
            write_bytes(file, data if file.suffix == ".png" else _for_both_schemes(data.decode(), figure).encode())
    return list(plots)


def _draw(kaleido: ModuleType, jobs: Sequence[Mapping[str, object]]) -> None:
    errors = import_module("kaleido.errors")
    try:
        # kaleido loads MathJax from the network by default.
        kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False}, cancel_on_error=True)
    except errors.ChromeNotFoundError:
        raise NasError(
            "PNG and SVG figures need Chrome or Chromium, and none was found: apt-get install chromium, or "
            "kaleido_get_chrome, or set BROWSER_PATH"
        ) from None
    except (errors.BrowserFailedError, errors.BrowserClosedError) as error:
        raise NasError(f"Chrome did not start, so there are no PNG or SVG figures: {error}") from None


def _kaleido() -> ModuleType:
    try:
        import_module("plotly")  # kaleido takes plotly.js from it; without it, kaleido would download the script
        return import_module("kaleido")
    except ImportError:
        raise NasError("PNG and SVG figures need plotly and kaleido: pip install 'lighthubert-nas[report]'") from None


def _job(figure: Figure, file: Path) -> dict[str, object]:
    """What kaleido draws: the figure in light colours under its title."""
    layout, text = figure.plot["layout"], wrapped(figure.title, 48)
    above = 36 + 20 * text.count("<br>")
    margin = {"l": 20, "r": 20, "t": layout["margin"]["t"] + above, "b": layout["margin"]["b"] + 8}
    legend = {**layout["legend"], "x": 0.03, "y": 0.01}
    title = {"text": text, "font": {"size": 16}, "x": 0.03, "yref": "container", "y": 0.97, "yanchor": "top"}
    height = layout["height"] + above + 8
    plot = paint(
        {**figure.plot, "layout": {**layout, "height": height, "margin": margin, "title": title, "legend": legend}},
        PALETTES["light"],
    )
    scale = 3 if file.suffix == ".png" else 1
    return {"fig": plot, "path": file, "opts": {"width": _WIDTH, "height": height, "scale": scale}}


def _for_both_schemes(svg: str, figure: Figure) -> str:
    """`svg` with a title and a description, and with rules that give it dark colours where the reader's are dark."""
    dark = {_rgb(colour): PALETTES["dark"][name] for name, colour in reversed(PALETTES["light"].items())}
    written = [(f"{kind}: {light}", kind, colour) for light, colour in dark.items() for kind in ("fill", "stroke")]
    rules = "".join(
        f'[style*="{style}"]{{{kind}:{colour}!important}}' for style, kind, colour in written if style in svg
    )
    title, alt = (html.escape(text) for text in (figure.title, figure.alt))
    about = f"<title>{title}</title><desc>{alt}</desc><style>@media(prefers-color-scheme:dark){{{rules}}}</style>"
    return re.sub(r"<svg[^>]*>", lambda match: match.group() + about, svg, count=1)


def _rgb(colour: str) -> str:
    """#rrggbb as plotly writes it."""
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"
