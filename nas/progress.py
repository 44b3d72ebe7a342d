"""What a search tells while it runs: callbacks, and a progress bar for terminals, notebooks and log files.

A callback is called with all evaluations so far, after each chunk of new ones; by raising `StopSearch` it ends the
search, which then finishes as if all evaluations were spent:

    def enough(evaluations):
        if any(e.ok and e.score > 0.9 for e in evaluations):
            raise nas.StopSearch

    nas.search("hubert-tiny", score, callbacks=[enough])
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nas.runs.ledger import Evaluation

__all__ = ["Callback", "SearchProgress", "StopSearch"]

LOG_EVERY_SECONDS = 10.0

Callback = Callable[[Sequence[Evaluation]], None]


class StopSearch(Exception):  # noqa: N818 - as StopIteration, it is no error
    """Raised by a callback: ends the search, keeps what was evaluated."""


class SearchProgress:
    """A callback that shows a bar of evaluations in a terminal or notebook, and elsewhere a line every ten seconds.

    `maximize`: whether the best score is the greatest. `alive`, if set, gives the number of evaluators. `then` is
    called after each update. Silent if `quiet`. Notebooks need ipywidgets for the bar; without it, they get the lines.
    """

    def __init__(
        self, total: int, console: Console, quiet: bool = False, then: Callable[[], None] = lambda: None
    ) -> None:
        self.maximize = False
        self.alive: Callable[[], int] | None = None
        self._total, self._console, self._then = total, console, then
        drawn = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
        self._plain = not quiet and not drawn
        columns = (TextColumn("searching"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(
            *columns, TextColumn("{task.fields[status]}", markup=False), console=console, disable=quiet or self._plain
        )
        self._task = self._bar.add_task("searching", total=total, status="")

    def __enter__(self) -> SearchProgress:
        self._bar.start()
        self._started = self._logged = time.monotonic()
        self._resumed_with: int | None = None
        return self

    def __call__(self, evaluations: Sequence[Evaluation]) -> None:
        """Takes all evaluations so far."""
        done, now = len(evaluations), time.monotonic()
        if self._resumed_with is None:
            self._resumed_with, self._started = done, now
        status = self._status(done, now, [e.score for e in evaluations if e.ok and e.score is not None])
        self._bar.update(self._task, completed=done, status=status)
        if self._plain and now - self._logged > LOG_EVERY_SECONDS:
            self._logged = now
            line = f"{done} of {self._total} evaluations, {status}"
            self._console.print(line, highlight=False, soft_wrap=True)
        self._then()

    def _status(self, done: int, now: float, scores: Sequence[float]) -> str:
        best = max if self.maximize else min
        status = f"best {best(scores):.5f}" if scores else "best —"
        first = self._resumed_with or 0
        if done > first:
            status = f"{(done - first) / (now - self._started):.2g}/s, {status}"
        return status if self.alive is None else f"{status}, {self.alive()} evaluators"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
