"""Pieces of HTML from untrusted text."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence

__all__ = ["box", "breakable", "escaped", "facts", "folded", "for_script", "section", "table", "tile", "tiles"]


def escaped(value: object) -> str:
    """`value` as text that is no markup, in content and in quoted attributes."""
    return html.escape(str(value))


def breakable(value: object) -> str:
    """`value` as text that is no markup, in content; paths and names of targets may break after , / @ and :."""
    return re.sub(r"([,/@:])(?=\S)", r"\1<wbr>", escaped(value))


def for_script(value: object) -> str:
    """JSON that no text in it can break out of a script element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def section(title: str, content: str) -> str:
    """A section of the page; nothing if it has no content. `content` is HTML."""
    return f"<section><h2>{escaped(title)}</h2>{content}</section>" if content else ""


def folded(title: str, content: str) -> str:
    """`content`, which is HTML, hidden until the title is clicked."""
    return f"<details><summary>{breakable(title)}</summary>{content}</details>"


def box(kind: str, text: str) -> str:
    """A paragraph that stands out; `kind` is "good" or "bad"."""
    return f"<p class='box {kind}'>{escaped(text)}</p>"


def tiles(contents: Sequence[str]) -> str:
    """Tiles side by side."""
    return f"<dl class='tiles'>{''.join(contents)}</dl>"


def tile(name: str, value: str, detail: str = "") -> str:
    """A value in large type; `detail` is HTML, the rest text."""
    more = f"<dd class='muted'>{detail}</dd>" if detail else ""
    return (
        f"<div class='tile'><dt class='muted'>{breakable(name)}</dt><dd class='value'>{escaped(value)}</dd>{more}</div>"
    )


def facts(rows: Sequence[Sequence[str]], head: Sequence[str] = (), caption: str = "") -> str:
    """A table of words."""
    return f"<div class='facts'>{table(head, rows, caption=caption)}</div>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int | None = None, caption: str = "") -> str:
    """A table in a box that scrolls; the first column names the rows, columns from `numbers` on are aligned right.

    The caption is for people who do not see what is written above the table. The box takes the keyboard's focus: its
    arrow keys scroll it.
    """
    label = f" role='group' aria-label=\"{escaped(caption)}\"" if caption else ""
    about = f"<caption>{escaped(caption)}</caption>" if caption else ""
    top = f"<thead><tr>{_cells(head, ['col'] * len(head), numbers)}</tr></thead>" if head else ""
    body = "".join(f"<tr>{_cells(row, ['row'], numbers)}</tr>" for row in rows)
    return f"<div class='scroll'{label} tabindex='0'><table>{about}{top}<tbody>{body}</tbody></table></div>"


def _cells(cells: Sequence[str], scopes: Sequence[str], numbers: int | None) -> str:
    """The cells of a row, of which the first are headers with these scopes."""
    parts = []
    for column, cell in enumerate(cells):
        right = " class='right'" if numbers is not None and column >= numbers else ""
        tag, scope = ("th", f" scope='{scopes[column]}'") if column < len(scopes) else ("td", "")
        parts.append(f"<{tag}{scope}{right}>{breakable(cell)}</{tag}>")
    return "".join(parts)
