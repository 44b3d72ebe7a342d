"""`nas search`: find the best subnet within budgets, and keep every evaluation in a run folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nas.commands.common import (
    JsonOption,
    command_line,
    confine,
    load_model,
    note_of_precision,
    write_page,
)
from nas.commands.console import counting, err, out, print_json, read_json
from nas.commands.identity import check_identity, identify
from nas.commands.options import Given, flag_of, verb
from nas.commands.tracking import Tracking, TrackingSettings
from nas.progress import Callback, SearchProgress
from nas.result import NothingScored, refuse_failures
from nas.settings import ClusterSettings, SearchSettings
from search_spaces import Budget, Cost, NasError, PredictedCost, RunError, Score, Space
from search_spaces.settings import Settings, option, option_of
from search_spaces.types import JsonMapping

if TYPE_CHECKING:
    from nas import SearchResult
    from nas.executors.ray import RayExecutor
    from supernet import HubertSupernet

__all__ = ["app", "run_identity", "run_search", "run_settings"]

app = typer.Typer(add_completion=False)
OUTPUT = "Output"


@dataclass(frozen=True)
class _RunSettings(Settings):
    out: str | None = option(
        None, "Run folder to write: a path, or an fsspec URL; default: runs/N.", group=OUTPUT, conflicts="resume"
    )
    resume: str | None = option(None, "Run folder to continue; its settings are kept.", group=OUTPUT)


@verb(app, example="nas search --budget 'params<=2.5M' --evals 64 --out runs/a", config=True)
def search(
    settings: SearchSettings,
    cluster: ClusterSettings,
    run: _RunSettings,
    tracked: TrackingSettings,
    given: Given,
    json: JsonOption = False,
) -> None:
    """Find the best subnet within the budgets, and keep every evaluation in a run folder."""
    from nas.report.summary import report_run, summary
    from nas.runs.mirror import Mirror

    place = run.resume or run.out or str(_free_folder(Path("runs")))
    with Mirror(place) as mirror:
        calibrations: JsonMapping = {}
        if run.resume is not None:
            settings, calibrations = _resumed(mirror.folder, settings, given)
        with (
            Tracking(tracked.log_to, mirror.folder, settings.to_dict()) as tracking,
            SearchProgress(settings.evals, err, json, mirror.sync) as progress,
        ):
            try:
                result = run_search(
                    settings, mirror.folder, run.resume is not None, progress, cluster, calibrations, tracking
                )
            except KeyboardInterrupt:
                again = ["nas", "search", "--resume", place, *(["--ray", cluster.ray] if cluster.ray else [])]
                again += [word for name in tracked.log_to for word in ("--log-to", name)]
                started = (mirror.folder / "run.json").exists()
                kept = f"; every finished batch is kept. Continue with: {shlex.join(again)}"
                err.print(f"interrupted{kept if started else ' before the search began'}", soft_wrap=True)
                raise typer.Exit(130) from None
        folder = mirror.folder
        page = write_page([folder], folder / "report.html")
    if json:
        print_json(summary(folder))
    else:
        out.print(report_run(folder))
        out.print(f"run folder: {place}" + (f"; open {page}" if page else ""), soft_wrap=True)
    refuse_failures(result)
    if not json and result.best:
        out.print(
            f"next: {shlex.join(['nas', 'export', str(folder), '--out', f'exported/{folder.name}'])}", soft_wrap=True
        )


def _free_folder(parent: Path) -> Path:
    return next(parent / str(n) for n in range(1, 1_000_000) if not (parent / str(n)).exists())


# -------------------------------------------------------------------- resuming


def run_settings(folder: Path) -> tuple[SearchSettings, JsonMapping]:
    """The settings that a run was started with, and the latency calibrations that it keeps."""
    from nas.runs.folder import read_settings

    record = read_settings(folder).get("settings")
    if not isinstance(record, dict) or "supernet" not in record:
        raise RunError(f"{folder} was not started by `nas search`: its run.json names no supernet")
    own = {key: value for key, value in record.items() if key not in ("calibrations", "command", "identity")}
    return SearchSettings.from_dict(own, str(folder / "run.json")), record.get("calibrations") or {}


def run_identity(folder: Path) -> object:
    """What a run of `nas search` was made of (see `nas.commands.identity`); None for one of earlier versions."""
    from nas.runs.folder import read_settings

    record = read_settings(folder)
    settings = record["settings"]
    if isinstance(settings, dict) and "identity" in settings:
        return settings["identity"]
    weights = record["score"].get("weights")
    return None if weights is None else {"supernet": weights}


def _resumed(folder: Path, settings: SearchSettings, given: Given) -> tuple[SearchSettings, JsonMapping]:
    """The settings of the run in `folder`, of which only the number of evaluations may change."""
    read_json(folder / "run.json", "not a run folder of `nas search`")
    started, calibrations = run_settings(folder)
    before, now = started.to_dict(), settings.to_dict()
    for setting in fields(SearchSettings):
        name = setting.name
        if name in given and name != "evals" and before[name] != now[name]:
            raise RunError(
                f"{folder} was started with {name}={before[name]}, and is resumed with it; got {now[name]}: "
                f"leave {flag_of(name, option_of(setting))} out, or start another run"
            )
    return (replace(started, evals=settings.evals) if "evals" in given else started), calibrations


# -------------------------------------------------------------------- the search itself


def run_search(
    settings: SearchSettings,
    folder: Path,
    resume: bool,
    progress: SearchProgress,
    cluster: ClusterSettings | None = None,
    calibrations: JsonMapping | None = None,
    tracking: Tracking | None = None,
) -> SearchResult:
    """The search that `settings` describe, in `folder`; scored in this process, or by the evaluators of a cluster."""
    import nas

    on_cluster = cluster is not None and cluster.ray is not None
    device = "cpu" if on_cluster else settings.device
    model = load_model(settings.supernet, device)
    identity = identify(model, settings.audio, settings.teacher, settings.space)
    if resume:
        check_identity(run_identity(folder), identity, folder)
    space = confine(model, settings.space)
    score = _score(settings, model, device)
    progress.maximize = score.higher_is_better

    callbacks: list[Callback] = [progress]
    if tracking is not None:
        callbacks.append(partial(tracking.evaluations, maximize=score.higher_is_better))
    executor = _executor(cluster, score, settings.device) if cluster is not None and on_cluster else None
    context: AbstractContextManager[object] = executor or nullcontext()
    with context:
        if executor is not None:
            progress.alive = lambda: executor.alive
        costs = _costs(settings, space, model, calibrations or {}, cluster if on_cluster else None)
        latencies = {name: cost for name, cost in costs.items() if name.startswith("latency_ms")}
        kept = {name: cost.calibration.to_dict() for name, cost in latencies.items()}  # type: ignore[attr-defined]
        if executor is None and (note := note_of_precision(device, settings.precision)):
            err.print(note, soft_wrap=True)
        try:
            result = nas.search(
                space,
                score,
                costs=costs,
                budgets=settings.budgets,
                searcher=settings.searcher,
                evals=settings.evals,
                seed=settings.seed,
                out=folder,
                resume=resume,
                batch=settings.batch,
                objectives=settings.objectives,
                callbacks=callbacks,
                settings={**settings.to_dict(), "calibrations": kept, "command": command_line(), "identity": identity},
                executor=executor,
                asynchronous=settings.asynchronous,
                uniform=settings.uniform,
                holdout=settings.holdout,
            )
        except NothingScored as error:
            result = error.result  # refused once its report is written
    _warn_unverified(settings.budgets, costs, result, folder)
    return result


def _score(settings: SearchSettings, model: HubertSupernet, device: str) -> Score:
    from evaluators import scores

    made: Score = scores.get_score(
        settings.score,
        model,
        device,
        settings.audio,
        settings.teacher,
        settings.precision,
        settings.successive,
    )
    return made


def _executor(cluster: ClusterSettings, score: Score, device: str) -> RayExecutor:
    from nas.executors.ray import RayExecutor

    assert cluster.ray is not None
    gpus = float(device != "cpu") if cluster.gpus_per_actor is None else cluster.gpus_per_actor
    needs = cluster.cpus_per_actor, gpus
    return RayExecutor(score, cluster.ray, cluster.actors, *needs, device, cluster.wait, cluster.evaluator_timeout)


def _costs(
    settings: SearchSettings,
    space: Space,
    model: HubertSupernet,
    calibrations: JsonMapping,
    cluster: ClusterSettings | None,
) -> dict[str, Cost]:
    """Params, MACs, and what budgets and objectives name beside them."""
    from evaluators.costs import CostContext, get_cost

    objectives = ["".join(name.split()) for name in settings.objectives[1:]]
    named = [*(budget.cost for budget in settings.budgets), *objectives]
    remote = _remote_target(cluster, named)
    costs = {}
    for name in dict.fromkeys(["params", "macs", *named]):
        on_it = [float(budget.limit) for budget in settings.budgets if budget.cost == name and not budget.percent]
        context = CostContext(
            space,
            model,
            seconds=settings.macs_seconds,
            limit=min(on_it, default=None),
            calibration=calibrations.get(name),
            remote=remote,
            log=partial(err.print, soft_wrap=True),
            progress=partial(counting, "calibrating"),
        )
        costs[name] = get_cost(name, context)
    return costs


def _remote_target(cluster: ClusterSettings | None, named: Sequence[str]) -> Callable[..., Any] | None:
    """`call(function, *arguments)` on a node with the target's resource, if one is named."""
    if cluster is None or cluster.target_resource is None:
        return None
    if not any(name.startswith("latency_ms") for name in named):
        raise NasError("--target-resource is for budgets on latency: none is given")
    from nas.cluster.remote_call import call_on

    return partial(call_on, cluster.target_resource, cluster.wait)


def _warn_unverified(budgets: Sequence[Budget], costs: Mapping[str, Cost], result: SearchResult, folder: Path) -> None:
    """Says which budgets on latency could not be verified on this machine."""
    for name in dict.fromkeys(budget.cost for budget in budgets):
        if result.best and name.startswith("latency_ms") and not isinstance(costs[name], PredictedCost):
            best = folder / "best.json"
            err.print(
                f"not verified: {name} is of another machine; there, run: nas latency measure {best}", soft_wrap=True
            )
