"""The progress of a run, from its folder alone; it may still be running, on this machine or another."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from nas.runs.folder import read_settings
from nas.runs.ledger import Evaluation
from nas.runs.skim import skim_ledger
from search_spaces.types import JsonObject

__all__ = ["run_status"]

_RECENT = 50


def run_status(folder: str | os.PathLike[str]) -> JsonObject:
    """Evaluations done and planned, their rate, the best so far, and the run's state.

    "state" is "running" if a process of this machine holds the folder, "finished", or "stopped". A run that is running
    on another machine looks "stopped" from here: see `idle_seconds`.
    """
    settings = read_settings(folder)
    skim = skim_ledger(Path(folder) / "ledger.jsonl", settings["maximize"], settings["costs"], _RECENT)
    count, best = skim.counts.total(), skim.best
    holder = _holder(Path(folder) / "lock")
    finished = "trust" in settings or count >= settings["evals"]
    return {
        "run": str(folder),
        "state": "running" if holder else "finished" if finished else "stopped",
        "process": holder,
        "evaluations": count,
        "evals": settings["evals"],
        "failed": skim.counts["failed"],
        "over_budget": skim.counts["over budget"],
        "per_second": _rate(skim.recent),
        "idle_seconds": _idle(skim.recent),
        "budgets": settings["budgets"],
        "searcher": settings["searcher"],
        "seed": settings["seed"],
        "best_score": best.score if best else None,
        "best_costs": dict(best.costs) if best else None,
        "best": best.subnet.id if best else None,
    }


def _holder(lock: Path) -> int | None:
    """The process of this machine that holds a run folder."""
    try:
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0) or None
    except (OSError, ValueError):
        pass
    return None


def _rate(recent: Sequence[Evaluation]) -> float | None:
    if len(recent) < 2:
        return None
    seconds = (_time(recent[-1]) - _time(recent[0])).total_seconds()
    return round((len(recent) - 1) / seconds, 3) if seconds > 0 else None


def _idle(evaluations: Sequence[Evaluation]) -> float | None:
    """Seconds since the last evaluation."""
    if not evaluations:
        return None
    return round((datetime.now(timezone.utc) - _time(evaluations[-1])).total_seconds(), 1)


def _time(evaluation: Evaluation) -> datetime:
    return datetime.fromisoformat(evaluation.at)
