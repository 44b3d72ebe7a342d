"""What `nas` prints when a command ends with an error: one line for a user's mistake."""

from __future__ import annotations

from typing import Any

import typer

from search_spaces.errors import NasError
from search_spaces.text import one_line

__all__ = ["explained"]

_UsageError: Any = typer.BadParameter.__base__  # typer has no public name for it


def explained(error: Exception) -> tuple[str, int]:
    """The line to print, and the exit status. Raises what is not a user's mistake again.

    The line is empty if a group of commands has printed its help, because none was named.
    """
    if isinstance(error, _UsageError):
        return one_line(_usage(error)), 2
    if isinstance(error, NasError):
        return one_line(str(error)), error.exit_status
    if isinstance(error, OSError):
        return one_line(f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")), 2
    raise error


def _usage(error: Any) -> str:
    if not error.format_message():
        return ""
    possible = list(getattr(error, "possibilities", None) or [])
    text = f"{error.message}; did you mean {possible[0]}?" if possible else error.format_message().rstrip(".")
    return f"{text} (try {error.ctx.command_path if error.ctx else 'nas'} --help)"
