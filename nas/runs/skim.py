"""The state of a ledger in a glance: all lines are counted, only the last ones and the best one are read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nas.runs.ledger import Evaluation, evaluation_of
from search_spaces import RunError
from search_spaces.files import read_bytes

__all__ = ["Skim", "skim_ledger"]

_LINE = re.compile(rb'^\{"index":\d+,.*"score":([^,]+),"status":"([a-z ]+)",')


class Skim(NamedTuple):
    """How many evaluations there are by status, the best of those that are "ok", and the last ones."""

    counts: Counter[str]
    best: Evaluation | None
    recent: Sequence[Evaluation]


def skim_ledger(path: Path, maximize: bool, costs: Sequence[str] = (), last: int = 50) -> Skim:
    """Of a ledger that may still be written to. Raises `RunError` for lines that are not those of a ledger."""
    try:
        lines = [line for line in read_bytes(path).split(b"\n")[:-1] if line.strip()] if path.exists() else []
    except OSError as error:
        raise RunError(f"cannot read ledger {path}: {error.strerror or error}") from None
    counts: Counter[str] = Counter()
    best, top = None, -float("inf")
    for number, line in enumerate(lines, 1):
        match = _LINE.match(line)
        if match is None:
            raise RunError(f"line {number} of {path} is not an evaluation of this run")
        counts[match[2].decode()] += 1
        if match[2] == b"ok" and (worth := _worth(match[1], maximize)) > top:
            best, top = number, worth
    first = max(0, len(lines) - last)
    recent = [_read(path, first + i, line, costs) for i, line in enumerate(lines[first:], 1)]
    return Skim(counts, None if best is None else _read(path, best, lines[best - 1], costs), recent)


def _worth(score: bytes, maximize: bool) -> float:
    try:
        return float(score) if maximize else -float(score)
    except ValueError:
        return -float("inf")


def _read(path: Path, number: int, line: bytes, costs: Sequence[str]) -> Evaluation:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RunError(f"line {number} of {path} is broken: {error}") from None
    return evaluation_of(path, number, line, fields, costs)
