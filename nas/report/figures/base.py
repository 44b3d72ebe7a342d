"""What every figure is made of: palettes, layouts, axes, notes and safe text.

A colour is a name of `PALETTES` ("@ink"), so that one figure can be painted for a light page, a dark page and a file.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "Figure",
    "PALETTES",
    "Plotly",
    "axis",
    "layout",
    "listed",
    "note",
    "paint",
    "plain",
    "score_title",
    "wrapped",
]

_LEGEND_LINE = 21

Plotly = dict[str, Any]
"""A part of a plotly figure, which nests as plotly's reference says."""

PALETTES: dict[str, dict[str, str]] = {
    "light": {
        "@ground": "#ffffff",
        "@card": "#f6f7f9",
        "@ink": "#1c2430",
        "@muted": "#5b6675",
        "@line": "#dde2ea",
        "@dot": "#7389a8",
        "@main": "#2066b4",
        "@on-main": "#ffffff",
        "@star": "#d9480f",
        "@uniform": "#17804a",
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
        "@uniform": "#4cc38a",
        "@better": "#5aa2f0",
        "@middle": "#262d38",
        "@worse": "#e08a45",
    },
}


class Figure(NamedTuple):
    """`plot` is plotly's data and layout; `title` and `caption` (how to read it) are plain text for the page."""

    title: str
    caption: str
    plot: Plotly

    @property
    def alt(self) -> str:
        """What the plot shows, as plain text for people who do not see it."""
        return str(self.plot["layout"].get("meta", ""))


def paint(plot: object, palette: Mapping[str, str]) -> object:
    """`plot` with the palette's colours in place of their names."""
    if isinstance(plot, dict):
        return {key: paint(value, palette) for key, value in plot.items()}
    if isinstance(plot, (list, tuple)):
        return [paint(value, palette) for value in plot]
    return palette.get(plot, plot) if isinstance(plot, str) else plot


def layout(height: int, xaxis: Plotly, alt: str, *, top: int = 10, legend: int = 0, **more: object) -> Plotly:
    """The layout of a figure `height` pixels high, without the `legend`'s lines; `more` is added to it.

    `alt` is that of `Figure`.
    """
    below = legend * _LEGEND_LINE
    # plotly makes room for an axis or for a legend in the container, not for one below the other
    bottom = below + 46 + 18 * xaxis["title"]["text"].count("<br>") if legend else 8
    return {
        "height": height + below,
        "meta": alt,
        "margin": {"l": 8, "r": 12, "t": top, "b": bottom},
        "xaxis": xaxis,
        "paper_bgcolor": "@ground",
        "plot_bgcolor": "@ground",
        "font": {"color": "@ink", "size": 13, "family": "system-ui, sans-serif"},
        "hoverlabel": {"align": "left", "bgcolor": "@card", "bordercolor": "@line", "font": {"color": "@ink"}},
        "hovermode": "closest",
        # Below the plot, measured from the edge of the figure: it never covers data, however narrow the page is.
        "legend": {
            **{"yref": "container", "y": 0, "yanchor": "bottom", "font": {"size": 13}},
            **{"xref": "container", "x": 0, "xanchor": "left"},
            # One entry a line. A vertical legend would take its width from the plot, and raise where that leaves none.
            **{"orientation": "h", "entrywidth": 290},
        },
        "showlegend": legend > 0,
        "modebar": {"bgcolor": "@ground", "color": "@muted", "activecolor": "@ink"},
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


def score_title(score: str, maximize: bool, what: str = "Score") -> str:
    """The title of an axis of scores, or `what` of them, with their direction."""
    return f"{wrapped(f'{what}: {score}')}<br>({'higher' if maximize else 'lower'} is better)"


def plain(text: object) -> str:
    """`text` without markup for plotly, which knows these three entities only."""
    return html.escape(str(text), quote=False)


def wrapped(text: str, width: int = 36) -> str:
    """`text` on up to three lines of `width` characters: plotly cuts off what is longer than an axis on a phone."""
    return "<br>".join(map(plain, textwrap.wrap(text, width, max_lines=3, placeholder=" …")))


def listed(values: Sequence[float]) -> str:
    """Numbers with commas between them."""
    return ", ".join(f"{value:g}" for value in values)
