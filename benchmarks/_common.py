"""What every benchmark prints, and how it times."""

from __future__ import annotations

import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["header", "milliseconds", "spread"]


def header() -> str:
    """Commit, command and machine, in one line."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    name = Path(sys.argv[0]).name
    return f"commit {commit or 'unknown'}; python benchmarks/{shlex.join([name, *sys.argv[1:]])}; {platform.machine()}"


def milliseconds(call: Callable[[], Any], repeats: int = 7) -> list[float]:
    """Wall times of `repeats` calls."""
    times = []
    for _ in range(repeats):
        before = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - before))
    return times


def spread(times: list[float]) -> str:
    return f"{statistics.median(times):.1f} ms ({min(times):.1f} – {max(times):.1f})"
