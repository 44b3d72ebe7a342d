"""What every figure is made of: palettes, layouts, axes, notes and safe text.

A colour is a name of `PALETTES` ("@ink"), so that one figure can be painted for a light page, a dark page and a file.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nas.report.run import RunReport

__all__ = ["Figure", "PALETTES", "Plotly", "axis", "brief", "layout", "listed", "note", "paint", "plain", "score_title"]

Plotly = dict[str, Any]
"""A part of a plotly figure, which nests as plotly's reference says."""

PALETTES: dict[str, dict[str, str]] = {
    "light": {
        "@ground": "#ffffff",
        "@card": "#f6f7f9",
        "@ink": "#1c2430",
        "@muted": "#5b6675",
        "@line": "#dde2ea",
        "@dot": "#8fa3bf",
        "@main": "#2066b4",
        "@on-main": "#ffffff",
        "@star": "#d9480f",
        "@better": "#2066b4",
        "@middle": "#f1f3f6",
        "@worse": "#b8520c",
    },
    "dark": {
        "@ground": "#14181f",
        "@card": "#1c222c",
        "@ink": "#e4e8ee",
        "@muted": "#9aa6b6",
        "@line": "#343d4a",
        "@dot": "#7d90ab",
        "@main": "#5aa2f0",
        "@on-main": "#0d1117",
        "@star": "#ff8a4c",
        "@better": "#5aa2f0",
        "@middle": "#262d38",
        "@worse": "#e08a45",
    },
}


class Figure(NamedTuple):
    """`title` and `caption` are plain text for the page around the plot; `plot` is plotly's data and layout."""

    title: str
    caption: str
    plot: Plotly


def paint(plot: object, palette: Mapping[str, str]) -> object:
    """`plot` with the palette's colours in place of their names."""
    if isinstance(plot, dict):
        return {key: paint(value, palette) for key, value in plot.items()}
    if isinstance(plot, (list, tuple)):
        return [paint(value, palette) for value in plot]
    return palette.get(plot, plot) if isinstance(plot, str) else plot


def layout(height: int, top: int = 10, **more: object) -> Plotly:
    """The layout of a figure `height` pixels high; `more` is added to it."""
    return {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": top, "b": 70 if more.get("showlegend", True) else 8},
        "paper_bgcolor": "@ground",
        "plot_bgcolor": "@ground",
        "font": {"color": "@ink", "size": 13, "family": "system-ui, sans-serif"},
        "hoverlabel": {"align": "left", "bgcolor": "@card", "bordercolor": "@line", "font": {"color": "@ink"}},
        "hovermode": "closest",
        # Below the plot, measured from the edge of the figure: it never covers data, however narrow the page is.
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        "showlegend": True,
        **more,
    }


def axis(title: str, **more: object) -> Plotly:
    """An axis with the common style; `more` is added to it."""
    return {
        "title": {"text": title, "standoff": 10, "font": {"size": 13}},
        "gridcolor": "@line",
        "linecolor": "@line",
        "zeroline": False,
        "automargin": True,
        **more,
    }


def note(text: str, x: float, y: float, font: Plotly, **more: object) -> Plotly:
    """A text in the plot, without an arrow."""
    return {"text": text, "x": x, "y": y, "font": font, "showarrow": False, **more}


def score_title(run: RunReport) -> str:
    """The title of an axis of scores, with their direction."""
    return f"score: {brief(run.score)}<br>({'higher' if run.maximize else 'lower'} is better)"


def plain(text: object) -> str:
    """`text` without markup for plotly, which knows these three entities only."""
    return html.escape(str(text), quote=False)


def brief(text: str, length: int = 32) -> str:
    """`text` for the title of an axis, shortened to `length`: plotly cuts off what is longer than the axis."""
    return plain(text if len(text) <= length else f"{text[: length - 1]}…")


def listed(values: Sequence[float]) -> str:
    """Numbers with commas between them."""
    return ", ".join(f"{value:g}" for value in values)
