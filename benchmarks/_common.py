"""What all benchmarks share: the command line, the line that identifies a result, and timing."""

from __future__ import annotations

import argparse
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["CONSOLE", "command_line", "header", "markdown_table", "milliseconds", "spread"]

CONSOLE = Console(width=400, highlight=False)
"""Wide enough that no row of a table is broken."""


def command_line(description: str | None) -> argparse.ArgumentParser:
    """A parser that prints a benchmark's docstring as its help."""
    return argparse.ArgumentParser(
        prog=f"python -m {_module()}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def header() -> str:
    """Commit, command and processor, in one line."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    command = shlex.join(["python", "-m", _module(), *sys.argv[1:]])
    return f"commit {commit or 'unknown'}; {command}; {platform.machine()}"


def _module() -> str:
    return f"benchmarks.{Path(sys.argv[0]).stem}"


def markdown_table(title: str, *columns: str) -> Table:
    """A table that is printed as Markdown, as documents hold it."""
    table = Table(title=title, title_justify="left", title_style="none", box=box.MARKDOWN)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def milliseconds(call: Callable[[], object], repeats: int = 7) -> list[float]:
    """Wall times of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def spread(times: list[float]) -> str:
    """Median, least and greatest, in ms."""
    return f"{statistics.median(times):.1f} ms ({min(times):.1f} – {max(times):.1f})"
