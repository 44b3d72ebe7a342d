"""What commands print, and read: consoles, JSON, tables of text, progress bars."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table

from search_spaces import files
from search_spaces.errors import NasError, RunError
from search_spaces.text import visible

__all__ = [
    "TrainingProgress",
    "counting",
    "err",
    "out",
    "print_json",
    "read_json",
    "read_text",
    "table",
    "write_out",
]

LOG_EVERY_SECONDS = 10.0


class _Plain(Console):
    """A console whose text is never markup, nor escape sequences: names and paths of others may hold both."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


out = _Plain()
err = _Plain(stderr=True)


def write_out(text: str) -> None:
    """Writes machine-readable text to standard output, unwrapped and uncoloured."""
    sys.stdout.write(text)


def print_json(record: object) -> None:
    """Prints `record` as JSON."""
    write_out(json.dumps(record, indent=1) + "\n")


def table(title: str, columns: Sequence[str], numeric: Sequence[str] = (), **options: bool) -> Table:
    """An empty table; `numeric` columns are right-aligned."""
    made = Table(title=title, title_justify="left", **options)  # type: ignore[arg-type]
    for column in columns:
        made.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    return made


def read_text(file: Path) -> str:
    """The text of a file the user named; raises `NasError` naming it."""
    try:
        return files.read_text(file)
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None


def read_json(file: Path, missing: str) -> dict[str, object]:
    """The JSON object in a file of a run; `missing` explains what it means that there is no such file."""
    if not file.exists():
        raise RunError(f"no {file}: {missing}")
    try:
        record = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise RunError(f"cannot read {file}: {error}") from None
    if not isinstance(record, dict):
        raise RunError(f"{file} must hold a JSON object; got a {type(record).__name__}")
    return record


# -------------------------------------------------------------------- progress


@contextmanager
def counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for (done, of) callbacks; a line every ten seconds if standard error is no terminal."""
    if not err.is_terminal:
        yield _LineOfProgress(label)
        return
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _LineOfProgress:
    """Says now and then how much is done, and about how long the rest will take."""

    def __init__(self, label: str) -> None:
        self._label, self._began = label, time.monotonic()
        self._said = self._began

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done and now - self._said >= LOG_EVERY_SECONDS:
            self._said = now
            left = (now - self._began) * (total - done) / done
            err.print(f"{self._label}: {done} of {total}, about {left:.0f} s left")


class TrainingProgress:
    """A bar for each part of a training run; validations are printed. Only the first process prints.

    `note`, if any, is printed when the first part begins.
    """

    def __init__(self, note: str = "") -> None:
        self._note = note
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=os.environ.get("RANK", "0") != "0",
        )
        self._task = self._bar.add_task("starting", total=None, status="")

    def __enter__(self) -> TrainingProgress:
        return self

    def __call__(self, record: Mapping[str, object]) -> None:
        """Takes one record of the training log; the first one shows the bar, so that a bad option ends in one line."""
        self._bar.start()
        if self._note and not self._bar.disable:
            err.print(self._note, soft_wrap=True)
        self._note = ""
        if "targets" in record:
            self._bar.update(
                self._task, description=f"teacher targets ({record['targets']})", total=_number(record, "of")
            )
            self._bar.advance(self._task, _number(record, "seconds"))
        elif "steps" in record:
            total = _number(record, "steps")
            self._bar.reset(self._task, description=f"stage {record['stage']}", total=total, status="")
        elif isinstance(record.get("dev"), dict):
            distances: dict[str, list[float]] = record["dev"]  # type: ignore[assignment]
            rows = ", ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in distances.items())
            err.print(f"step {record['step']}: dev teacher distance: {rows}", soft_wrap=True)
        else:
            loss = f"loss {_number(record, 'loss'):.3f}"
            self._bar.update(self._task, completed=_number(record, "step") + 1, status=loss)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar.live.is_started:
            self._bar.stop()


def _number(record: Mapping[str, object], key: str) -> float:
    value = record[key]
    assert isinstance(value, (int, float)), key
    return value
