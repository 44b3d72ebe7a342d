"""`nas sweep`: a grid of searches, each the settings of `nas search` with some of them replaced."""

from __future__ import annotations

import json as json_
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from nas.cluster.sweep import read_jobs
from nas.commands.common import JsonOption, command_line, costs_line, write_page
from nas.commands.console import err, out, print_json, table
from nas.commands.options import Given, verb
from nas.commands.search import run_search, run_settings
from nas.progress import SearchProgress
from nas.result import refuse_failures
from nas.runs.ledger import Evaluation
from nas.settings import WHERE, SearchSettings, parse_budget
from search_spaces import CheckFailed, NasError, RunError
from search_spaces.settings import Settings, option
from search_spaces.types import JsonMapping, JsonObject

__all__ = ["app", "run_trial"]

app = typer.Typer(add_completion=False)
GRID = "Grid: one search for each combination"
REPORT_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class _GridSettings(Settings):
    budget: tuple[str, ...] = option((), "'params<=2M', or 'A and B'; repeatable.", group=GRID)
    target: tuple[str, ...] = option(
        (), "Target of budgets on latency, such as onnxruntime,threads=1; repeatable.", group=GRID, needs="budget"
    )
    searcher: tuple[str, ...] = option(("exact",), "Search algorithm; repeatable.", group=GRID)
    seed: tuple[int, ...] = option((0,), "Seed; repeatable.", group=GRID, minimum=0)


@dataclass(frozen=True)
class _TrialSettings(Settings):
    ray: str = option("local", "Ray cluster: auto, host:port, or local.", group=WHERE)
    cpus_per_trial: float = option(1.0, "CPU cores of each search.", group=WHERE, minimum=0)
    gpus_per_trial: float = option(0.0, "GPUs of each search.", group=WHERE, minimum=0)
    max_failures: int = option(3, "How often a search that died is started again.", group=WHERE, minimum=0)


@dataclass(frozen=True)
class _SweepFolder(Settings):
    out: str | None = option(None, "Folder that all nodes see, or an fsspec URL.", group="Output", conflicts="resume")
    resume: str | None = option(None, "Sweep to continue; its settings are kept.", group="Output")


@verb(
    app,
    example="nas sweep --budget 'params<=2M' --budget 'params<=3M' --seed 0 --seed 1 --out sweeps/a",
    config=True,
    without=("budgets", "asynchronous"),  # budgets are the grid's; a trial evaluates in its own process
)
def sweep(
    grid: _GridSettings,
    base: SearchSettings,
    trials: _TrialSettings,
    folder: _SweepFolder,
    given: Given,
    json: JsonOption = False,
) -> None:
    """Search for a family of subnets: budgets x targets x searchers x seeds, as trials of Ray Tune."""
    from nas.cluster.sweep import sweep as run_sweep

    place = folder.resume or folder.out
    if place is None:
        raise NasError("a sweep needs a folder: --out DIR, or --resume DIR to continue")
    jobs = _jobs(place, folder.resume is not None, grid, base, given)
    try:
        results = run_sweep(
            jobs, run_trial, place, trials.ray, trials.cpus_per_trial, trials.gpus_per_trial, trials.max_failures
        )
    except KeyboardInterrupt:
        again = shlex.join(["nas", "sweep", "--resume", place, "--ray", trials.ray])
        err.print(f"interrupted; continue with: {again}", soft_wrap=True)
        raise typer.Exit(130) from None
    page = _write_page(place, [name for name, result in results.items() if "error" not in result])
    if json:
        print_json(results)
    else:
        _show(place, results, page)


def _show(place: str, results: Mapping[str, JsonMapping], page: str | None) -> None:
    shown = table(f"sweep {place}", ("search", "evaluations", "score", "costs of the best"))
    for name, result in results.items():
        score = "" if result.get("score") is None else f"{result['score']:.6g}"
        costs = costs_line(result.get("costs") or {})
        shown.add_row(name, str(result.get("evaluations", "")), score, result.get("error", costs))
    out.print(shown)
    if page:
        out.print(f"compared in {page}", soft_wrap=True)


# -------------------------------------------------------------------- jobs


def _jobs(place: str, resume: bool, grid: _GridSettings, base: SearchSettings, given: Given) -> dict[str, JsonObject]:
    """The settings of each search by its name: those in the folder, or the grid's, written there."""
    from nas.cluster.sweep import grid as combinations
    from nas.runs.mirror import read_file, write_file

    held = read_file(place, "sweep.json")
    if resume:
        if held is None:
            raise RunError(f"{place} holds no sweep: there is no sweep.json")
        own = sorted(given & {*vars(grid), *vars(base)})
        if own:
            raise RunError(f"{place} is resumed with its own settings: leave {own[0]} out, or start another sweep")
        return read_jobs(held, f"{place}/sweep.json")
    if held is not None:
        again = shlex.join(["nas", "sweep", "--resume", place])
        raise RunError(f"{place} holds a sweep: continue it with {again}, or choose another folder")
    jobs = {
        name: replace(
            base, budgets=tuple(map(parse_budget, job["budgets"])), searcher=job["searcher"], seed=job["seed"]
        ).to_dict()
        for name, job in combinations(grid.budget, grid.target, grid.searcher, grid.seed).items()
    }
    plan = {"jobs": jobs, "command": command_line()}
    write_file(place, "sweep.json", json_.dumps(plan, indent=1).encode())
    return jobs


def run_trial(job: JsonMapping, place: str, report: Callable[[JsonObject], None]) -> JsonObject:
    """One search of a sweep, on a worker: started, continued, or read if it is finished."""
    from nas.runs.mirror import Mirror

    settings = SearchSettings.from_dict(job, "sweep.json")
    with Mirror(place) as mirror:
        resume = (mirror.folder / "run.json").exists()
        calibrations = run_settings(mirror.folder)[1] if resume else {}
        progress = _TrialProgress(settings.evals, mirror.sync, report)
        result = run_search(settings, mirror.folder, resume, progress, calibrations=calibrations)
        write_page([mirror.folder], mirror.folder / "report.html")
    refuse_failures(result)
    best = result.best
    if best is None:
        raise CheckFailed("a search without evaluations has no best")
    return {
        "evaluations": len(result.evaluations),
        "score": best.score,
        "costs": dict(best.costs),
        "subnet": best.subnet.to_json(),
    }


class _TrialProgress(SearchProgress):
    """Reports to Ray Tune now and then, in place of a bar."""

    def __init__(self, total: int, then: Callable[[], None], report: Callable[[JsonObject], None]) -> None:
        super().__init__(total, err, True, then)
        self._sync, self._report, self._reported = then, report, 0.0

    def __call__(self, evaluations: Sequence[Evaluation]) -> None:
        self._sync()
        if time.monotonic() - self._reported > REPORT_EVERY_SECONDS:
            self._reported = time.monotonic()
            known = [e.score for e in evaluations if e.ok and e.score is not None]
            best = (max if self.maximize else min)(known) if known else None
            self._report({"evaluations": len(evaluations), "score": best})


def _write_page(place: str, names: Sequence[str]) -> str | None:
    """Writes the report that compares the searches of a sweep."""
    from nas.runs.mirror import fetched, write_file

    if not names:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        folders = [fetched(f"{place}/runs/{name}", Path(scratch) / name) for name in names]
        page = write_page(folders, Path(scratch) / "report.html")
        if page is None:
            return None
        write_file(place, "report.html", page.read_bytes())
    return f"{place}/report.html"
