"""Pieces of HTML from untrusted text."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

__all__ = ["box", "escaped", "facts", "folded", "for_script", "section", "table", "tile", "tiles"]


def escaped(value: object) -> str:
    """`value` as text that is no markup, in content and in quoted attributes."""
    return html.escape(str(value))


def for_script(value: object) -> str:
    """JSON that no text in it can break out of a script element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def section(title: str, content: str) -> str:
    """A section of the page; nothing if it has no content. `content` is HTML."""
    return f"<section><h2>{escaped(title)}</h2>{content}</section>" if content else ""


def folded(title: str, content: str) -> str:
    """`content`, which is HTML, hidden until the title is clicked."""
    return f"<details><summary>{escaped(title)}</summary>{content}</details>"


def box(kind: str, text: str) -> str:
    """A paragraph that stands out; `kind` is "good" or "bad"."""
    return f"<p class='box {kind}'>{escaped(text)}</p>"


def tiles(contents: Sequence[str]) -> str:
    """Tiles side by side."""
    return f"<div class='tiles'>{''.join(contents)}</div>"


def tile(name: str, value: str, detail: str = "") -> str:
    """A value in large type; `detail` is HTML, the rest text."""
    return (
        f"<div class='tile'><div class='muted'>{escaped(name)}</div>"
        f"<div class='value'>{escaped(value)}</div><div class='muted'>{detail}</div></div>"
    )


def facts(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A table whose first column names the others."""
    return f"<div class='facts'>{table(head, rows)}</div>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int | None = None) -> str:
    """A table in a box that scrolls; columns from `numbers` on are aligned right."""
    top = f"<thead><tr>{_cells(head, 'th', numbers)}</tr></thead>" if head else ""
    body = "".join(f"<tr>{_cells(row, 'td', numbers)}</tr>" for row in rows)
    return f"<div class='scroll'><table>{top}<tbody>{body}</tbody></table></div>"


def _cells(cells: Sequence[str], tag: str, numbers: int | None) -> str:
    right = [numbers is not None and column >= numbers for column in range(len(cells))]
    return "".join(f"<{tag}{' class=right' if r else ''}>{escaped(cell)}</{tag}>" for cell, r in zip(cells, right))
