"""`nas`: the command line. Verbs become function calls; nothing else lives here."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from evaluators.tasks import TASKS
from nas.searchers import SEARCHERS
from search_spaces import (
    AdditiveTable,
    CheckFailed,
    Feasible,
    NasError,
    RunError,
    Space,
    Subnet,
    get_space,
    space_from_dict,
)

if TYPE_CHECKING:
    from evaluators.costs.latency.calibration import Calibration, LatencyCost
    from nas import SearchResult
    from nas.executors.ray import RayExecutor
    from supernet import HubertSupernet

__all__ = ["app", "main", "run_search", "run_training", "run_trial"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Neural architecture search for speech Transformers: the best subnet of a supernet within a budget.",
)
out = Console()
err = Console(stderr=True)

SupernetOption = Annotated[str, typer.Option(help="A shipped name (hubert-tiny) or a path to a checkpoint.")]
BudgetOption = Annotated[list[str] | None, typer.Option(help="Such as 'params<=27M'; repeat for several.")]
SecondsOption = Annotated[float, typer.Option(help="Seconds of audio that MACs are counted for.")]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda.")]
RayOption = Annotated[str | None, typer.Option(help="Run on a Ray cluster: auto, host:port, or local.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]


# -------------------------------------------------------------------- search and report


@app.command()
def search(
    context: typer.Context,
    supernet: SupernetOption = "hubert-tiny",
    budget: BudgetOption = None,
    searcher: Annotated[str, typer.Option(help=f"One of {', '.join(SEARCHERS)}.")] = "exact",
    score: Annotated[
        str, typer.Option(help="distillation, probe:LABEL (with --audio), or a sum: probe:speaker+0.5*distillation.")
    ] = "distillation",
    objective: Annotated[list[str] | None, typer.Option(help="score; repeat with a cost for a front.")] = None,
    evals: Annotated[int | None, typer.Option(min=0, help="Evaluations to spend (64 where not given).")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out_: Annotated[str | None, typer.Option("--out", help="Run folder to write: a path, or a URL of fsspec.")] = None,
    resume: Annotated[str | None, typer.Option(help="Run folder to go on with; its settings are kept.")] = None,
    space: Annotated[str | None, typer.Option(help="A .toml sub-space of the supernet's space.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Manifest of calibration speech.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Hugging Face folder of the teacher, with --audio.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Subnets proposed at a time.")] = 16,
    asynchronous: Annotated[bool, typer.Option("--async", help="Propose as others finish: not repeatable.")] = False,
    seconds: SecondsOption = 1.0,
    device: DeviceOption = "cpu",
    ray: RayOption = None,
    actors: Annotated[int | None, typer.Option(min=1, help="Evaluators; as many as fit where not given.")] = None,
    cpus_per_actor: Annotated[float, typer.Option(min=0)] = 1.0,
    gpus_per_actor: Annotated[float | None, typer.Option(min=0, help="1 with --device cuda, else 0.")] = None,
    target_resource: Annotated[str | None, typer.Option(help="Measure latency on nodes with this resource.")] = None,
    wait: Annotated[bool, typer.Option(help="Begin although nodes for --actors are still to come.")] = False,
    precision: Annotated[str, typer.Option(help="What subnets are scored in: fp32, or bf16 (faster).")] = "fp32",
    successive: Annotated[
        bool, typer.Option("--successive", help="Rule out on a quarter of the speech what cannot be the best.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Find the best subnet within the budgets, and keep every evaluation in a run folder."""
    from nas.report.summary import report_run, summary
    from nas.runs.mirror import Mirror

    settings: dict[str, Any] = {
        "supernet": supernet,
        "budgets": budget or [],
        "searcher": searcher,
        "score": score,
        "objectives": objective or ["score"],
        "evals": 64 if evals is None else evals,
        "seed": seed,
        "space": space,
        "batch": batch,
        "asynchronous": asynchronous,
        "macs_seconds": seconds,
        "device": device,
        "precision": precision,
        "successive": successive,
        "audio": _absolute(audio),
        "teacher": _absolute(teacher),
    }
    place = resume or out_ or str(_free_folder(Path("runs")))
    with Mirror(place) as mirror:
        if resume is not None:
            begun = _run_settings(mirror.folder)
            _refuse_changes(context, mirror.folder, begun, settings)
            settings = {**settings, **begun, **({} if evals is None else {"evals": evals})}
        cluster = None if ray is None else _Cluster(ray, actors, cpus_per_actor, gpus_per_actor, target_resource, wait)
        with _progress(settings["evals"], json_, mirror.sync) as progress:
            try:
                result = run_search(settings, mirror.folder, resume is not None, progress, cluster)
            except KeyboardInterrupt:
                again = f"nas search --resume {place}" + (f" --ray {ray}" if ray else "")
                err.print(f"interrupted; every finished evaluation is kept. Go on with: {again}", soft_wrap=True)
                raise typer.Exit(130) from None
        folder = mirror.folder
        page = _page([folder], folder / "report.html")
    if json_:
        _print_json(summary(folder))
    else:
        out.print(report_run(folder))
        out.print(f"run folder: {place}" + (f"; open {page}" if page else ""))
    _refuse_failures(result)
    if not json_ and result.best:
        out.print(f"next: nas export {folder} --out exported/")


def _refuse_failures(result: SearchResult) -> None:
    """Raises `CheckFailed` where something was evaluated and nothing could be scored."""
    if result.evaluations and result.best is None:
        raise CheckFailed(f"all {len(result.evaluations)} evaluations failed; the first: {result.evaluations[0].error}")


@dataclass(frozen=True)
class _Cluster:
    """Where a search is evaluated, which is no part of its settings."""

    address: str
    actors: int | None
    cpus: float
    gpus: float | None
    target_resource: str | None
    wait: bool

    def executor(self, score: Any, device: str) -> RayExecutor:
        from nas.executors.ray import RayExecutor

        gpus = float(device != "cpu") if self.gpus is None else self.gpus
        return RayExecutor(score, self.address, self.actors, self.cpus, gpus, device, self.wait)

    def on_target(self) -> Callable[..., Any] | None:
        """`call(function, *arguments)` on a node with the target's resource, where one is named."""
        from nas.cluster.remote_call import call_on

        if self.target_resource is None:
            return None
        return partial(call_on, self.target_resource, self.wait)


def run_search(
    settings: dict[str, Any], folder: Path, resume: bool, progress: Any, cluster: _Cluster | None = None
) -> SearchResult:
    """The search that `settings` describe, in `folder`; scored here, or by the evaluators of a cluster."""
    import nas
    from evaluators import scores
    from search_spaces.budget import budgets_on

    here = settings["device"] if cluster is None else "cpu"
    model = _load(settings["supernet"], here)
    chosen = _sub_space(model, settings["space"])
    costs = _costs(chosen, settings["macs_seconds"])
    aim, precision = settings.get("score", "distillation"), settings.get("precision", "fp32")
    successive = settings.get("successive", False)
    score = scores.get_score(aim, model, here, settings["audio"], settings["teacher"], precision, successive)
    progress.best = max if score.higher_is_better else min
    executor = None if cluster is None else cluster.executor(score, settings["device"])
    with executor or nullcontext():
        progress.executor = executor
        there = cluster.on_target() if cluster else None
        named = [*settings["budgets"], *settings["objectives"]]
        if there and not any(each.strip().startswith("latency_ms") for each in named):
            raise NasError("--target-resource is for budgets on latency: none is given")
        latencies = _latency_costs(
            model, settings["budgets"], settings["objectives"], settings.get("calibrations", {}), there
        )
        calibrations = {name: each.calibration.to_dict() for name, each in latencies.items()}
        result = nas.search(
            chosen,
            score,
            costs={**costs, **latencies},
            budgets=tuple(settings["budgets"]),
            searcher=settings["searcher"],
            evals=settings["evals"],
            seed=settings["seed"],
            out=folder,
            resume=resume,
            batch=settings["batch"],
            objectives=tuple(settings["objectives"]),
            on_progress=progress,
            settings={**settings, "calibrations": calibrations, "command": _command()},
            executor=executor,
            asynchronous=settings["asynchronous"],
        )
    for name, each in latencies.items() if result.best else ():
        if not hasattr(each, "verify") and budgets_on(name, settings["budgets"]):
            best = folder / "best.json"
            err.print(
                f"not verified: {name} is of another machine; there, run: nas latency measure {best}", soft_wrap=True
            )
    return result


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folder; more of them are compared with it.")],
    png: Annotated[Path | None, typer.Option(help="Folder for the figures as PNG files (needs Chrome).")] = None,
    journal: Annotated[Path | None, typer.Option(help="File for an Optuna study, for optuna-dashboard.")] = None,
    json_: JsonOption = False,
) -> None:
    """Show what a run found, and write its report.html."""
    from nas.report.summary import report_run, summary

    if json_:
        _print_json(summary(runs[0]) if len(runs) == 1 else [summary(run) for run in runs])
    else:
        for run in runs:
            out.print(report_run(run))
    written = [_page(runs, runs[0] / "report.html")]
    if png is not None:
        from nas.report.html import write_pngs

        written += write_pngs(runs, png)
    if journal is not None:
        written.append(_study(runs[0], journal))
    for file in filter(None, written if not json_ else ()):
        out.print(f"wrote {file}")


def _page(runs: Sequence[Path], file: Path) -> Path | None:
    """The HTML report, or None where plotly is not installed."""
    if find_spec("plotly") is None:
        return None
    from nas.report.html import write_html

    return write_html(runs, file)


def _study(run: Path, file: Path) -> Path:
    from nas.objective import Objective
    from nas.report.summary import read_run
    from nas.searchers.optuna_samplers import write_study

    settings, evaluations = read_run(run)
    objective = Objective(settings["maximize"], *settings["objectives"][1:])
    write_study(evaluations, space_from_dict(settings["space"]), objective, file)
    return file


@app.command()
def status(
    run: Annotated[str, typer.Argument(help="Run folder or sweep: a path, or a URL of fsspec.")],
    json_: JsonOption = False,
) -> None:
    """Show how far a run or a sweep is; it may be going on, here or elsewhere."""
    from nas.runs.mirror import fetched, read_file
    from nas.runs.status import run_status

    described = read_file(run, "sweep.json")
    places = [run] if described is None else [f"{run}/runs/{name}" for name in json.loads(described)["jobs"]]
    records = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, place in enumerate(places):
            try:
                records.append({**run_status(fetched(place, Path(scratch) / str(number))), "run": place})
            except RunError:
                if described is None:
                    raise
                records.append({"run": place, "state": "not begun", "evaluations": 0})
    if json_:
        _print_json(records if described is not None else records[0])
        return
    for record in records:
        out.print(_status_line(record), highlight=False, markup=False, soft_wrap=True)


def _status_line(record: dict[str, Any]) -> str:
    said = record["state"] + (f" (process {record['process']})" if record.get("process") else "")
    parts = [f"{record['run']}: {said}", f"{record['evaluations']} of {record.get('evals', '?')} evaluations"]
    if record.get("failed"):
        parts.append(f"{record['failed']} failed")
    if record.get("per_second") and record["state"] == "running":
        parts.append(f"{record['per_second']:.3g}/s")
    if record.get("idle_seconds") is not None:
        parts.append(f"last {record['idle_seconds']:,.0f} s ago")
    if record.get("best_score") is not None:
        parts.append(f"best {record['best_score']:.6g} ({_costs_line(record['best_costs'])})")
    return ", ".join(parts)


def _costs_line(costs: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}" for name, value in costs.items()
    )


# -------------------------------------------------------------------- sweeps


@app.command()
def sweep(
    supernet: SupernetOption = "hubert-tiny",
    budget: Annotated[list[str] | None, typer.Option(help="'params<=2M', or 'A and B'; repeat.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Such as onnxruntime,threads=1; repeat.")] = None,
    searcher: Annotated[list[str] | None, typer.Option(help="Repeat to compare.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeat.")] = None,
    evals: Annotated[int, typer.Option(min=1, help="Evaluations of each search.")] = 64,
    out_: Annotated[str | None, typer.Option("--out", help="Folder that all nodes see, or a URL of fsspec.")] = None,
    resume: Annotated[str | None, typer.Option(help="Sweep to go on with; its settings are kept.")] = None,
    space: Annotated[str | None, typer.Option(help="A .toml sub-space of the supernet's space.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Manifest of calibration speech.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Hugging Face folder of the teacher, with --audio.")] = None,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    seconds: SecondsOption = 1.0,
    device: DeviceOption = "cpu",
    ray: Annotated[str, typer.Option(help="auto, host:port, or local.")] = "local",
    cpus_per_trial: Annotated[float, typer.Option(min=0)] = 1.0,
    gpus_per_trial: Annotated[float, typer.Option(min=0)] = 0.0,
    max_failures: Annotated[int, typer.Option(min=0, help="How often a trial that died is begun again.")] = 3,
    json_: JsonOption = False,
) -> None:
    """Search for a family of subnets: budgets x targets x searchers x seeds, as trials of Ray Tune."""
    from cli import run_trial as run  # by its name, so that the workers import it
    from nas.cluster.sweep import grid
    from nas.cluster.sweep import sweep as run_sweep
    from nas.runs.mirror import read_file, write_file

    if (place := resume or out_) is None:
        raise NasError("a sweep needs a folder: --out DIR, or --resume DIR to go on")
    held = read_file(place, "sweep.json")
    if resume is None:
        if held is not None:
            raise RunError(f"{place} holds a sweep: go on with nas sweep --resume {place}, or take another folder")
        shared = {
            "supernet": supernet if not Path(supernet).exists() else str(Path(supernet).absolute()),
            "objectives": ["score"],
            "evals": evals,
            "space": None if space is None or not Path(space).exists() else str(Path(space).absolute()),
            "batch": batch,
            "asynchronous": False,
            "macs_seconds": seconds,
            "device": device,
            "audio": _absolute(audio),
            "teacher": _absolute(teacher),
        }
        jobs = grid(budget or [], target or [], searcher or ["exact"], seed or [0])
        plan: dict[str, Any] = {"jobs": {name: {**shared, **job} for name, job in jobs.items()}, "command": _command()}
        write_file(place, "sweep.json", json.dumps(plan, indent=1).encode())
    elif held is None:
        raise RunError(f"{place} holds no sweep: there is no sweep.json")
    else:
        plan = json.loads(held)
    try:
        found = run_sweep(plan["jobs"], run, place, ray, cpus_per_trial, gpus_per_trial, max_failures)
    except KeyboardInterrupt:
        err.print(f"interrupted; go on with: nas sweep --resume {place} --ray {ray}", soft_wrap=True)
        raise typer.Exit(130) from None
    page = _sweep_page(place, [name for name, result in found.items() if "error" not in result])
    if json_:
        _print_json(found)
        return
    table = Table(title=f"sweep {place}", title_justify="left")
    for column in ("search", "evaluations", "score", "costs of the best"):
        table.add_column(column, overflow="fold")
    for name, result in found.items():
        costs = _costs_line(result.get("costs") or {})
        score = "" if result.get("score") is None else f"{result['score']:.6g}"
        table.add_row(name, str(result.get("evaluations", "")), score, result.get("error", costs))
    out.print(table)
    if page:
        out.print(f"compared in {page}")


def run_trial(job: dict[str, Any], place: str, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """One search of a sweep, on a worker: begins it, goes on with it, or reads what it found."""
    from nas.runs.mirror import Mirror

    class Progress:
        executor: Any = None
        best: Any = min
        said = 0.0

        def __call__(self, evaluations: Sequence[Any]) -> None:
            mirror.sync()
            if time.monotonic() - self.said > 5:
                self.said = time.monotonic()
                scores = [e.score for e in evaluations if e.status == "ok"]
                report({"evaluations": len(evaluations), "score": self.best(scores) if scores else None})

    with Mirror(place) as mirror:
        resume = (mirror.folder / "run.json").exists()
        result = run_search(job, mirror.folder, resume, Progress())
        _page([mirror.folder], mirror.folder / "report.html")
    _refuse_failures(result)
    best = result.best
    if best is None:
        raise CheckFailed("a search without evaluations has no best")
    return {
        "evaluations": len(result.evaluations),
        "score": best.score,
        "costs": dict(best.costs),
        "subnet": best.subnet.to_json(),
    }


def _sweep_page(place: str, names: Sequence[str]) -> str | None:
    """Writes the report that compares the searches of a sweep."""
    from nas.runs.mirror import fetched, write_file

    if not names:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        folders = [fetched(f"{place}/runs/{name}", Path(scratch) / name) for name in names]
        page = _page(folders, Path(scratch) / "report.html")
        if page is None:
            return None
        write_file(place, "report.html", page.read_bytes())
    return f"{place}/report.html"


# -------------------------------------------------------------------- spaces and costs


@app.command("space")
def show_space(
    name: Annotated[str, typer.Argument(help="A named space, or a .toml file.")],
    budget: BudgetOption = None,
    seconds: SecondsOption = 1.0,
    json_: JsonOption = False,
) -> None:
    """Show a space: its choices, its size, its range of costs, and how many subnets fit the budgets."""
    from evaluators.costs import macs, params

    space = get_space(name)
    tables = {"params": params(space).table, "macs": macs(space, seconds).table}
    limits = _limits(tables, budget or [])
    fits = Feasible(space, limits)
    record: dict[str, Any] = {
        "space": space.to_dict(),
        "size": space.size,
        "fits": fits.count(),
        "range": {cost: list(table.range()) for cost, table in tables.items()},
        "smallest": space.smallest.to_dict(),
        "largest": space.largest.to_dict(),
    }
    if json_:
        _print_json(record)
    else:
        out.print(_space_table(space, record, limits))
    if not record["fits"]:
        fits.cheapest(tables["params"])  # says the nearest possible


def _space_table(space: Space, record: dict[str, Any], limits: Sequence[tuple[AdditiveTable, float]]) -> Table:
    table = Table(title=f"space {space.name}", show_header=False, title_justify="left")
    description = space.to_dict()
    table.add_row("embed dims", _joined(description["embed_dims"]))
    table.add_row("heads", _joined(description["heads"]))
    table.add_row("FFN ratios", _joined(description["ffn_ratios"]))
    table.add_row("depths", _joined(space.depths))
    table.add_row("subnets", f"{record['size']:,}")
    for cost, (low, high) in record["range"].items():
        table.add_row(cost, f"{low:,} – {high:,}")
    if limits:
        share = record["fits"] / record["size"]
        said = " and ".join(f"{t.name}<={limit:,}" for t, limit in limits)
        table.add_row(said, f"{record['fits']:,} subnets fit ({share:.3%})")
    return table


@app.command()
def cost(
    supernet: SupernetOption = "hubert-tiny",
    subnet: Annotated[Path | None, typer.Option(help="JSON file of a subnet; the largest where not given.")] = None,
    seconds: SecondsOption = 1.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads for the measured latency.")] = 1,
    device: DeviceOption = "cpu",
    json_: JsonOption = False,
) -> None:
    """Show what a subnet costs: ours beside other counters with what each did not count, and measured latency."""
    from evaluators.costs import macs, params
    from evaluators.costs.counters import counters
    from evaluators.costs.latency.measure import measure
    from evaluators.costs.latency.target import Target

    model = _load(supernet, device)
    chosen = _read_subnet(subnet, model.space) if subnet else model.space.largest
    model.space.check(chosen)
    net = model.to("cpu").extract(chosen).eval()
    own = {
        "params": params(model).of(chosen),
        "params_exported": params(model, convention="exported").of(chosen),
        "macs": macs(model, seconds).of(chosen),
    }
    others = counters(net, seconds)
    target = Target(device=device, threads=threads, seconds=max(seconds, 2.0))
    timings = measure(model, [chosen, model.space.largest], target, seconds=3.0, passes=2)
    measured, largest = timings.ms.tolist()
    if json_:
        _print_json(
            {
                "subnet": chosen.to_dict(),
                "id": chosen.id,
                **own,
                "macs_seconds": seconds,
                "latency_ms": measured,
                "latency_error": float(timings.error[0]),
                "latency_target": str(target),
                "largest_latency_ms": largest,
                "counters": [vars(row) for row in others],
            }
        )
        return
    table = Table(title=f"subnet {chosen.id}, {seconds:g} s of audio", title_justify="left")
    for column in ("counter", "params", "MACs", "of ours", "did not count"):
        left = column in ("counter", "did not count")
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    table.add_row(
        "ours (LightHuBERT's way)", f"{own['params']:,}", f"{own['macs']:,}", "1.000", "norms, softmax, GELU, biases"
    )
    table.add_row(
        "ours (exported module)", f"{own['params_exported']:,}", "", "", "the mask embedding, which is not exported"
    )
    for row in others:
        ratio = "" if row.macs is None else f"{row.macs / own['macs']:.3f}"
        table.add_row(row.counter, _number(row.params), _number(row.macs), ratio, row.unseen)
    out.print(table)
    out.print(
        f"latency {measured:.1f} ms (± {timings.error[0]:.1%}), largest subnet {largest:.1f} ms; "
        f"exported module, {target}"
    )


# -------------------------------------------------------------------- latency

latency = typer.Typer(no_args_is_help=True, help="Measure and predict the latency of exported subnets.")
app.add_typer(latency, name="latency")

TargetOption = Annotated[str, typer.Option(help="Such as onnxruntime,threads=1,seconds=2; or a preset.")]


@latency.command("measure")
def latency_measure(
    subnets: Annotated[list[Path] | None, typer.Argument(help="JSON files of subnets; three sizes if none.")] = None,
    supernet: SupernetOption = "hubert-tiny",
    target: TargetOption = "torch",
    out_: Annotated[Path | None, typer.Option("--out", help="JSON file to write.")] = None,
    json_: JsonOption = False,
) -> None:
    """Measure exported subnets in turns, with a reference in every round."""
    from evaluators.costs.latency.measure import measure
    from evaluators.costs.latency.target import Target, machine

    on = Target.parse(target)
    on.check_here()
    model = _load(supernet, "cpu")
    space = model.space
    given = [_read_subnet(file, space) for file in subnets or []]
    names = [str(file) for file in subnets or []] or ["smallest", "middle", "largest"]
    with _counting("measuring") as on_progress:
        timings = measure(
            model, given or [space.smallest, space.middle, space.largest], on, shipped=True, on_progress=on_progress
        )
    record = {"machine": machine(on.device), "versions": on.versions(), **timings.to_dict()}
    if out_ is not None:
        _write_json(out_, record)
    if json_:
        _print_json({**record, "warnings": timings.warnings()})
        return
    table = Table(title=f"latency on {on}", title_justify="left")
    for column in ("subnet", "ms", "± (95 %)", "of the reference", "plain median"):
        table.add_column(column, justify="left" if column == "subnet" else "right")
    for name, ms, error, raw in zip(names, timings.ms, timings.error, timings.raw_ms, strict=True):
        table.add_row(name, f"{ms:.3f}", f"{error:.1%}", f"{ms / timings.reference_ms:.3f}", f"{raw:.3f}")
    out.print(table)
    out.print(f"reference: the middle subnet, {timings.reference_ms:.3f} ms; {timings.rounds} rounds")
    out.print(f"differences under {timings.indistinguishable:.1%} cannot be told apart here and now")
    for warning in timings.warnings():
        err.print(f"note: {warning}")


@latency.command("calibrate")
def latency_calibrate(
    supernet: SupernetOption = "hubert-tiny",
    target: TargetOption = "torch",
    measurements: Annotated[int, typer.Option(help="Subnets to measure, 12 to 200.")] = 100,
    space: Annotated[str | None, typer.Option(help="A .toml sub-space of the supernet's space.")] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="File to write, not the one searches look for.")] = None,
    json_: JsonOption = False,
) -> None:
    """Measure this machine, so that latencies are predicted with a bound. Searches do it themselves where needed."""
    from evaluators.costs.latency.calibration import calibrate, calibration_file
    from evaluators.costs.latency.target import Target

    on = Target.parse(target)
    on.check_here()
    model = _load(supernet, "cpu")
    chosen = _sub_space(model, space)
    with _counting("calibrating") as on_progress:
        made = calibrate(model, on, measurements, on_progress=on_progress)
    file = made.save(out_ or calibration_file(chosen, on))
    _show_calibration(made, file, json_)


@latency.command("fit")
def latency_fit(
    csv: Annotated[Path, typer.Option(help="One line a network: its choices a layer, and latency_ms.")],
    space: Annotated[str | None, typer.Option(help="Space of the rows: embed_dim, heads_1.., ffn_ratio_1..")] = None,
    json_: JsonOption = False,
) -> None:
    """Fit the same predictor to measurements of any space, and say how well it predicts rows that it was not shown."""
    from evaluators.costs.latency.model import fit_csv

    found = fit_csv(csv, None if space is None else get_space(space))
    if json_:
        _print_json(found)
        return
    table = Table(title=f"{csv}: {found['rows']} rows, each predicted by a model of the others", title_justify="left")
    for column in ("MAPE", "P95", "Kendall tau", "over the bound", "bound: mean +"):
        table.add_column(column, justify="right")
    shares = [f"{found[key]:.2%}" for key in ("mape", "p95")]
    table.add_row(*shares, f"{found['tau']:.3f}", f"{found['over']:.1%}", f"{found['margin']:.2%}")
    out.print(table)


@latency.command("show")
def latency_show(
    file: Annotated[Path | None, typer.Argument(help="A calibration; where not given, those kept are listed.")] = None,
    json_: JsonOption = False,
) -> None:
    """Show a calibration: where it was made, how well it predicts, and what each choice costs."""
    from evaluators.costs.latency.calibration import Calibration, calibrations

    if file is not None:
        _show_calibration(Calibration.load(file), file, json_)
        return
    kept = calibrations()
    if json_:
        _print_json([str(each) for each in kept])
        return
    for each in kept:
        out.print(str(each), soft_wrap=True, highlight=False)
    if not kept:
        out.print("no calibrations yet: nas latency calibrate")


def _show_calibration(calibration: Calibration, file: Path, json_: bool) -> None:
    summary = calibration.summary()
    if json_:
        _print_json({"file": str(file), **summary})
        return
    table = Table(title=f"calibration {file}", show_header=False, title_justify="left")
    table.add_row("space, target", f"{calibration.space.name}, {calibration.target}")
    table.add_row("machine", ", ".join(f"{key} {value}" for key, value in calibration.machine.items()))
    table.add_row("versions", ", ".join(f"{key} {value}" for key, value in calibration.versions.items()))
    table.add_row("measured", f"{summary['measurements']} subnets, {calibration.made}")
    table.add_row("reference", f"the middle subnet, {summary['reference_ms']:.3f} ms")
    table.add_row("error of a measurement", f"± {summary['measurement_error']:.2%} (95 %)")
    table.add_row("error of a prediction", f"{summary['left_out_mape']:.2%} on average, of subnets not shown")
    table.add_row("upper bound", f"prediction + {summary['margin']:.2%}, kept by {summary['confidence']:.1%}")
    table.add_row("fastest, slowest", " – ".join(f"{ms:.2f} ms" for ms in summary["range_ms"]))
    out.print(table)
    costs = Table(title="milliseconds of a layer, by embed dim; and of all the rest", title_justify="left")
    costs.add_column("heads, FFN ratio")
    for row in summary["layer_ms"]:
        costs.add_column(str(row["embed_dim"]), justify="right")
    for kind in summary["layer_ms"][0]["ms"]:
        costs.add_row(kind, *(f"{row['ms'][kind]:.3f}" for row in summary["layer_ms"]))
    costs.add_row("the rest", *(f"{row['rest_ms']:.3f}" for row in summary["layer_ms"]))
    out.print(costs)
    for warning in calibration.timings.warnings():
        err.print(f"note: {warning}")


@app.command()
def bench(json_: JsonOption = False) -> None:
    """Show how fast scoring, counting and training are on this machine, against the plain way: three minutes."""
    import nas
    from evaluators.costs import params
    from nas.commands.speed_rows import Race, machine_rows

    def evolve(space: Space, race: Race) -> None:
        costs = {"params": params(space)}
        nas.search(space, race, costs=costs, budgets=("params<=27M",), searcher="evolution", evals=48, batch=16, seed=0)

    table = Table(title="median (least – most) of turns taken with the slow way", title_justify="left")
    for column in ("work", "against", "goal", "here", "note"):
        table.add_column(column, overflow="fold")
    records = []
    with err.status("measuring") as status:
        for row in machine_rows(evolve):
            status.update(f"measured: {row.work}: {row.said}")
            table.add_row(row.work, row.against, row.goal, row.said, row.note)
            records.append(vars(row))
    if json_:
        _print_json(records)
    else:
        out.print(table)


# -------------------------------------------------------------------- export and train


def _list_formats(asked: bool) -> None:
    """Prints the table of exporters: asked for, since it takes importing torch."""
    if not asked:
        return
    from supernet.export import EXPORTERS, get_exporter

    table = Table(title="formats", title_justify="left")
    for column in ("format", "dtypes", "what is written"):
        table.add_column(column, overflow="fold")
    for name in EXPORTERS:
        exporter = get_exporter(name)
        table.add_row(name, ", ".join(exporter.dtypes), (exporter.__doc__ or "").splitlines()[0])
    out.print(table)
    raise typer.Exit()


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="Run folder, or a subnet's JSON file (with --supernet).")],
    out_: Annotated[Path, typer.Option("--out", help="Folder to write; must be new or empty.")],
    format_: Annotated[str, typer.Option("--format", help="Comma-separated; --list shows them.")] = "json,safetensors",
    supernet: Annotated[str | None, typer.Option(help="The supernet, where the source is a JSON file.")] = None,
    dtype: Annotated[str, typer.Option(help="fp32, or for some formats fp16 or int8.")] = "fp32",
    audio: Annotated[Path | None, typer.Option(help="Recordings to score rounded weights on; else the run's.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Hugging Face folder of the teacher, with --audio.")] = None,
    list_: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_list_formats, help="Show the formats, and end.")
    ] = False,
) -> None:
    """Write the chosen subnet as files of its own, read them back and compare them with the supernet's slice."""
    from evaluators.costs import params
    from supernet.export import export_subnet

    about: dict[str, Any] = {"command": _command()}
    heard = {"audio": _absolute(audio), "teacher": _absolute(teacher)}
    if source.is_dir():
        best = _read_json(source / "best.json", "a run without a finished evaluation has nothing to export")
        settings = _run_settings(source)
        name, chosen = supernet or settings["supernet"], Subnet.from_dict(best["subnet"])
        about |= {"costs": best.get("costs"), "score": best.get("score"), "budgets": settings["budgets"]}
        about["measured"] = best.get("measured")
        about["trust"] = _read_json(source / "run.json", "not a run folder of `nas search`").get("trust")
        heard = heard if audio else {key: settings.get(key) for key in heard}
    else:
        if supernet is None:
            raise NasError(f"{source} is a subnet: say which supernet it is cut from (--supernet NAME|PATH)")
        name, chosen = supernet, _read_subnet(source, None)
    model = _load(name, "cpu")
    model.space.check(chosen)
    about |= {"name": Path(name).name, "supernet": model.provenance}
    about["costs"] = about.get("costs") or {"params": params(model).of(chosen)}
    said: list[str] = []
    score = _export_score(model, chosen, heard, about, said) if dtype != "fp32" else None
    formats = [part.strip() for part in format_.split(",") if part.strip()]
    files = export_subnet(model, chosen, out_, formats, about, dtype, score)
    _check_budgets(about.get("budgets") or [], params(model).of(chosen))
    for file in files:
        out.print(f"wrote {file} ({file.stat().st_size:,} bytes)")
    for line in said:
        out.print(line)
    same = "equal to" if dtype == "fp32" else f"within {dtype}'s rounding of"
    out.print(f"checked: read back, {same} the supernet's slice; {params(model).of(chosen):,} params")


def _export_score(
    model: HubertSupernet, subnet: Subnet, heard: dict[str, Any], about: dict[str, Any], said: list[str]
) -> Callable[[Any], float]:
    """Scores exports whose weights are rounded; what they lose is said, and goes into the model card."""
    from evaluators import scores

    distance = scores.distillation(model, **heard)
    about["score_fp32"] = whole = distance([subnet])[0]
    about["score_of"] = f"{distance.seconds:g} s of {distance.source}"
    if not distance.hears_front_end:
        about["score_of"] += ", from the front end's features on: give --audio to include the front end"

    def score(run: Any) -> float:
        found: float = distance.of_export(subnet, run)
        said.append(f"score {found:.5f}, {found - whole:+.5f} of float32's {whole:.5f} ({about['score_of']})")
        return found

    return score


@app.command()
def train(
    teacher: Annotated[Path, typer.Option(help="Hugging Face folder: HuBERT, wav2vec 2.0, WavLM or Whisper.")],
    audio: Annotated[Path, typer.Option(help="Manifest of speech, with the splits train and dev.")],
    out_: Annotated[Path, typer.Option("--out", help="Folder; run again to go on.")],
    space: Annotated[str, typer.Option(help="A named space, or a .toml file.")] = "hubert-tiny",
    init: Annotated[str | None, typer.Option(help="Trained supernet to go on from: stage 2 only.")] = None,
    stage1_steps: Annotated[int, typer.Option(min=1)] = 2600,
    stage2_steps: Annotated[int, typer.Option(min=1)] = 1700,
    batch_seconds: Annotated[float, typer.Option(min=1)] = 20.0,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    stage2_learning_rate: Annotated[float, typer.Option(min=0)] = 6e-4,
    mask_prob: Annotated[float, typer.Option(min=0, max=1, help="Share of frames hidden, late in each stage.")] = 0.2,
    mask_from: Annotated[float, typer.Option(min=0, max=1, help="Part of a stage's steps without a mask.")] = 0.6,
    sampler: Annotated[str, typer.Option(help="Stage 2: uniform (LightHuBERT) or sandwich.")] = "sandwich",
    budget: Annotated[
        list[str] | None, typer.Option(help="Stage 2 draws subnets that keep it; repeat, and they take turns.")
    ] = None,
    loss: Annotated[str, typer.Option(help="mse, l1 or l1+cosine.")] = "mse",
    in_place: Annotated[float, typer.Option(help="Share of the largest's predictions in the others' targets.")] = 0.0,
    ema: Annotated[float, typer.Option(help="Decay of a running mean of the weights, such as 0.999; 0: none.")] = 0.0,
    teacher_layers: Annotated[
        str | None, typer.Option(help="Hidden states to regress: 2,4,6; or 2+4+6, their mean.")
    ] = None,
    targets: Annotated[Path | None, typer.Option(help="Folder to keep the teacher's targets in.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "bf16",
    device: DeviceOption = "cpu",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    minutes: Annotated[float | None, typer.Option(help="Stop with a checkpoint after this long.")] = None,
    ray: RayOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on the cluster, with --ray.")] = 1,
    cpus_per_worker: Annotated[float, typer.Option(min=0)] = 1.0,
) -> None:
    """Distil a supernet from a teacher: stage 1 trains the largest subnet, stage 2 all of them.

    In several processes: torchrun --nproc-per-node N --no-python nas train …, or --ray auto --workers N.
    """
    settings: dict[str, Any] = {
        "teacher": str(teacher.absolute()),
        "audio": _absolute(audio),
        "out": _absolute(out_),
        "space": space if not Path(space).exists() else _absolute(Path(space)),
        "init": init if init is None or not Path(init).exists() else _absolute(Path(init)),
        "steps": (stage1_steps, stage2_steps),
        "learning_rates": (learning_rate, stage2_learning_rate),
        "budgets": tuple(budget or ()),
        "recipe": {
            "batch_seconds": batch_seconds,
            "mask_prob": mask_prob,
            "mask_from": mask_from,
            "sampler": sampler,
            "loss": loss,
            "in_place": in_place,
            "ema": ema,
            "precision": precision,
            "seed": seed,
        },
        "layers": _layer_list(teacher_layers),
        "targets": _absolute(targets),
        "device": device,
        "minutes": minutes,
    }
    try:
        if ray is None:
            finished = run_training(settings)
        else:
            from cli import run_training as run  # by its name, so that the workers import it
            from nas.cluster.train import train_on_ray

            finished = train_on_ray(run, settings, ray, workers, cpus_per_worker, device != "cpu")
    except KeyboardInterrupt:
        err.print(f"interrupted; run the same command again to go on from the last checkpoint in {out_}")
        raise typer.Exit(130) from None
    out.print(
        f"supernet: {out_ / 'supernet'}" if finished else f"stopped; run the same command again to go on ({out_})"
    )


def run_training(settings: dict[str, Any]) -> bool:
    """The training that `settings` describe, as one of its processes; whether it is finished."""
    from supernet.teacher import load_teacher
    from supernet.training.distil import Recipe, distil
    from supernet.training.processes import joined

    _check_device(settings["device"])
    with joined(settings["device"]) as device:
        start = None if settings["init"] is None else _load(settings["init"], device)
        space = start.space if start else get_space(settings["space"])
        budgets, within = _within_each(space, settings["budgets"])
        recipes = [
            Recipe(stage=stage, steps=steps, learning_rate=rate, budgets=kept, **settings["recipe"])
            for stage, steps, rate, kept in zip((1, 2), settings["steps"], settings["learning_rates"], ((), budgets))
        ]
        teacher = load_teacher(settings["teacher"], settings["layers"], device)
        with _training_progress() as progress:
            finished = distil(
                space,
                teacher,
                Path(settings["audio"]),
                Path(settings["out"]),
                recipes[1:] if start else recipes,
                device,
                progress,
                None if settings["targets"] is None else Path(settings["targets"]),
                float("inf") if settings["minutes"] is None else 60 * settings["minutes"],
                start,
                within,
            )
    return finished is not None


def _within_each(space: Space, budgets: Sequence[str]) -> tuple[tuple[str, ...], list[Feasible]]:
    """The budgets on params and MACs as they are said in full, and the subnets that keep each of them."""
    import numpy as np

    from nas import Budget

    costs = _costs(space, 1.0)
    parsed = [Budget.parse(words, costs) for words in budgets]
    within = [Feasible(space, [(costs[budget.cost].table, budget.limit)]) for budget in parsed]
    for feasible in within:
        feasible.sample(np.random.default_rng(0), 1)  # raises where nothing fits
    return tuple(map(str, parsed)), within


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="Hugging Face folder (HuBERT, wav2vec 2.0), .pt, or a supernet.")],
    out_: Annotated[Path, typer.Option("--out", help="Folder to write the supernet to; must not exist.")],
    space: Annotated[str | None, typer.Option(help="A named space of its network, or a .toml file.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Speech to judge importance on; else by magnitude.")] = None,
    sort: Annotated[bool, typer.Option(help="Put heads and FFN units in order of importance.")] = True,
) -> None:
    """Make a supernet whose largest subnet is a given model, with what matters first, so that slices start well."""
    from supernet.order import convert as converted

    if out_.exists():
        raise RunError(f"{out_} exists: give a new folder")
    found = converted(source, out_, None if space is None else get_space(space), audio, sort)
    out.print(
        f"wrote {out_}: space {found.space.name}, {found.space.size:,} subnets, ordered: {'yes' if sort else 'no'}"
    )
    out.print("checked: the largest subnet equals the model it was made from")


# -------------------------------------------------------------------- downstream tasks


@app.command("eval")
def evaluate_task(
    model: Annotated[str, typer.Option(help="Exported folder, or a supernet's name or path.")],
    task: Annotated[str, typer.Option(help=f"One of {', '.join(TASKS)}.")],
    manifest: Annotated[Path, typer.Option(help="Manifest, or the folder of a corpus whose layout is known.")],
    subnet: Annotated[Path | None, typer.Option(help="JSON file of the supernet's subnet; else the largest.")] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="JSON file to write the result to.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps hidden states for the next task.")] = None,
    learning_rate: Annotated[list[float] | None, typer.Option(help="Repeat for several: the best on dev.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="At most; dev stops earlier.")] = 60,
    batch: Annotated[int, typer.Option(min=1, help="Recordings in a batch.")] = 32,
    hidden: Annotated[
        int, typer.Option(min=0, help="Units of asr's BLSTM each way, or of diarization's LSTM; 0: linear, 512.")
    ] = 0,
    beam: Annotated[int, typer.Option(min=1, help="Beam of asr's decoder; 1: greedy.")] = 1,
    alphabet: Annotated[str | None, typer.Option(help="Letters that count in asr; others become spaces.")] = None,
    skip_missing: Annotated[bool, typer.Option(help="Leave recordings without the label out.")] = False,
    device: DeviceOption = "cpu",
    json_: JsonOption = False,
) -> None:
    """Train small heads on a frozen subnet's hidden states, as SUPERB does, and say what they reach on test."""
    from evaluators.tasks import evaluate
    from evaluators.tasks.features import load_upstream
    from evaluators.tasks.fit import Recipe

    _check_device(device)
    recipe = Recipe(tuple(learning_rate or Recipe.learning_rates), seeds, epochs, batch=batch)
    upstream = load_upstream(model, None if subnet is None else _read_subnet(subnet, None), device)
    with _counting("hidden states") as done:
        record = evaluate(
            upstream, task, manifest, recipe, device, cache, skip_missing, alphabet, hidden, beam, err.print, done
        )
    if out_ is not None:
        _write_json(out_, record)
    if json_:
        _print_json(record)
        return
    data = record["data"]
    for name, value in record["results"].items():
        if name == "of_which":
            out.print("of which " + ", ".join(f"{part} {rate:.4f}" for part, rate in value.items()))
        elif isinstance(value, dict):
            out.print(f"{name} {value['value']:.4f} (95 % {value['low']:.4f} – {value['high']:.4f})")
    sizes = ", ".join(f"{data[part]:,} {part}" for part in ("train", "dev", "test"))
    out.print(f"{task} on {data['name']}: {sizes} recordings")
    for said in data["left_out"]:
        out.print(f"left out: {said}")


@app.command()
def finetune(
    model: Annotated[Path, typer.Option(help="Folder of `nas export` (safetensors).")],
    task: Annotated[
        str,
        typer.Option(
            help=f"One of {', '.join(name for name, task in TASKS.items() if task.kind in ('classes', 'text'))}."
        ),
    ],
    manifest: Annotated[Path, typer.Option(help="Manifest, or the folder of a corpus whose layout is known.")],
    out_: Annotated[Path, typer.Option("--out", help="Folder; run again to go on.")],
    steps: Annotated[int, typer.Option(min=1)] = 1000,
    learning_rate: Annotated[float, typer.Option(help="Of the encoder; the head has ten times as much.")] = 1e-4,
    batch_seconds: Annotated[float, typer.Option(min=1)] = 32.0,
    alphabet: Annotated[str | None, typer.Option(help="Letters that count in asr; others become spaces.")] = None,
    skip_missing: Annotated[bool, typer.Option(help="Leave recordings without the label out.")] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    minutes: Annotated[float | None, typer.Option(help="Stop with a checkpoint after this long.")] = None,
    device: DeviceOption = "cpu",
    json_: JsonOption = False,
) -> None:
    """Train an exported subnet on a task as a whole, classes or CTC, and say what it reaches on test."""
    from evaluators.tasks.finetune import FinetuneSettings
    from evaluators.tasks.finetune import finetune as tune

    _check_device(device)
    recipe = FinetuneSettings(steps, learning_rate, batch_seconds, seed)
    most = float("inf") if minutes is None else 60 * minutes
    try:
        record = tune(model, task, manifest, out_, recipe, device, skip_missing, alphabet, most, err.print)
    except KeyboardInterrupt:
        err.print(f"interrupted; run the same command again to go on from the last checkpoint in {out_}")
        raise typer.Exit(130) from None
    if record is None:
        out.print(f"stopped; run the same command again to go on ({out_})")
    elif json_:
        _print_json(record)
    else:
        for name, value in record["results"].items():
            out.print(f"{name} {value['value']:.4f} (95 % {value['low']:.4f} – {value['high']:.4f})")
        out.print(f"fine-tuned subnet: {out_}")


# -------------------------------------------------------------------- helpers


def _load(name: str, device: str) -> HubertSupernet:
    from supernet import load_supernet

    _check_device(device)
    return load_supernet(name, device=device)


def _check_device(device: str) -> None:
    import torch

    if device != "cpu" and not device.startswith("cuda"):
        raise NasError(f"device must be cpu or cuda; got {device!r}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise NasError(f"device={device} is not on this machine; use --device cpu")


def _sub_space(model: HubertSupernet, name: str | None) -> Space:
    """The supernet's space, or the named part of it."""
    if name is None:
        return model.space
    model.use_space(get_space(name))
    return model.space


def _costs(space: Space, seconds: float) -> dict[str, Any]:
    from evaluators.costs import macs, params

    return {"params": params(space), "macs": macs(space, seconds)}


def _latency_costs(
    model: HubertSupernet,
    budgets: Sequence[str],
    objectives: Sequence[str],
    given: Mapping[str, Any],
    there: Callable[..., Any] | None = None,
) -> dict[str, LatencyCost]:
    """The latencies that budgets and objectives name, by the names they go by there.

    From the calibrations `given` by the run that is resumed, from a file (`latency_ms<=20@FILE.json`: of any machine,
    and not to be verified here), or of this machine: kept, or made now. With `there`, which calls functions on the
    node that the target is, calibrations are made and winners verified on it.
    """
    from evaluators.costs.latency.calibration import (
        Calibration,
        LatencyCost,
        calibrate,
        calibration_file,
        require_possible,
    )
    from evaluators.costs.latency.target import Target
    from nas import Budget

    limits: dict[str, float] = {}
    for budget in (Budget.parse(text) for text in budgets if text.strip().startswith("latency_ms")):
        limits[budget.cost] = min(float(budget.limit), limits.get(budget.cost, math.inf))
    names = [*limits, *("".join(each.split()) for each in objectives if each.strip().startswith("latency_ms"))]
    costs = {}
    for name in dict.fromkeys(names):
        words = name.partition("@")[2]
        if words.endswith(".json"):
            calibration = Calibration.from_dict(given[name]) if name in given else Calibration.load(words)
            calibration.check_space(model.space)
            costs[name] = LatencyCost(calibration)
            continue
        target = Target.parse(words)
        if there:
            calibration = Calibration.from_dict(given[name]) if name in given else there(calibrate, model, target)
            calibration.check_space(model.space)
            costs[name] = LatencyCost(calibration)
            costs[name].verify = partial(there, _verified, calibration, model)
            continue
        target.check_here()
        file = calibration_file(model.space, target)
        if name in given:
            calibration = Calibration.from_dict(given[name])
        elif file.is_file():
            calibration = Calibration.load(file)
        else:
            if name in limits:
                require_possible(model, target, limits[name])
            err.print(f"no calibration of {target} on this machine yet: measuring, once (nas latency calibrate)")
            with _counting("calibrating") as on_progress:
                calibration = calibrate(model, target, on_progress=on_progress)
            err.print(f"calibration: {calibration.save(file)}", soft_wrap=True)
            for warning in calibration.timings.warnings():
                err.print(f"note: {warning}", soft_wrap=True)
        calibration.check(model.space, target)
        costs[name] = LatencyCost(calibration, model)
    return costs


def _verified(calibration: Calibration, model: HubertSupernet, subnet: Subnet, limit_ms: float) -> dict[str, Any]:
    """What `LatencyCost.verify` finds on the machine that this runs on."""
    from evaluators.costs.latency.calibration import LatencyCost

    return LatencyCost(calibration, model).verify(subnet, limit_ms)


def _limits(tables: dict[str, AdditiveTable], budgets: Sequence[str]) -> list[tuple[AdditiveTable, float]]:
    from nas import Budget

    limits = []
    for budget in map(Budget.parse, budgets):
        if budget.cost not in tables:
            raise NasError(f"budget on {budget.cost}: a space alone knows {', '.join(tables)}")
        limits.append((tables[budget.cost], budget.limit))
    return limits


def _check_budgets(budgets: Sequence[str], params: int) -> None:
    from nas import Budget

    for budget in map(Budget.parse, budgets):
        if budget.cost == "params" and params > budget.limit:
            raise CheckFailed(f"the exported subnet has {params:,} params, over its budget of {budget.limit:,}")


def _read_json(file: Path, otherwise: str) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"no {file}: {otherwise}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {file}: {error}") from None
    if not isinstance(record, dict):
        raise RunError(f"{file} must hold a JSON object")
    return record


def _run_settings(folder: Path) -> dict[str, Any]:
    record = _read_json(folder / "run.json", "not a run folder of `nas search`")
    settings = record.get("settings")
    if not isinstance(settings, dict) or "supernet" not in settings:
        raise RunError(f"{folder} was not begun by `nas search`: its run.json names no supernet")
    return settings


def _refuse_changes(context: typer.Context, folder: Path, begun: dict[str, Any], given: dict[str, Any]) -> None:
    """A resumed run keeps its settings: what was said on the command line may not contradict them."""
    options = {"budget": "budgets", "objective": "objectives", "seconds": "macs_seconds", "async": "asynchronous"}
    for option in (
        "supernet",
        "budget",
        "searcher",
        "score",
        "objective",
        "seed",
        "space",
        "audio",
        "teacher",
        "batch",
        "async",
        "seconds",
        "precision",
        "successive",
    ):
        key = options.get(option, option)
        parameter = "asynchronous" if option == "async" else option
        said = getattr(context.get_parameter_source(parameter), "name", "") == "COMMANDLINE"
        if said and given[key] != begun.get(key):
            raise RunError(
                f"{folder} was begun with {key}={begun.get(key)}, and is resumed with it; got {given[key]}: "
                f"leave --{option} out, or begin another run"
            )


def _read_subnet(file: Path, space: Space | None) -> Subnet:
    try:
        subnet = Subnet.from_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(f"cannot read subnet {file}: {getattr(error, 'strerror', None) or error}") from None
    if space is not None:
        space.check(subnet)
    return subnet


def _free_folder(parent: Path) -> Path:
    return next(parent / str(n) for n in range(1, 1_000_000) if not (parent / str(n)).exists())


def _write_json(file: Path, record: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(file)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _layer_list(words: str | None) -> tuple[tuple[int, ...], ...] | None:
    """`2,4,6` is three targets, `2+4+6` one: their mean."""
    if words is None:
        return None
    try:
        return tuple(tuple(int(layer) for layer in word.split("+")) for word in words.split(","))
    except ValueError:
        raise NasError(f"--teacher-layers must be whole numbers such as 2,4,6 or 2+4+6; got {words!r}") from None


def _command() -> str:
    return shlex.join(["nas", *sys.argv[1:]])


def _joined(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, (int, float)) else str(value) for value in values)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _print_json(record: Any) -> None:
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


class _progress:  # noqa: N801 - used as a with block
    """A rich bar of evaluations; plain lines now and then where there is no terminal, silence where output is JSON."""

    best: Any = min  # of scores
    executor: Any = None  # tells how many evaluators are alive, where there are several

    def __init__(self, total: int, quiet: bool, then: Callable[[], None]) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._total, self._then = total, then
        self._plain = not quiet and not err.is_terminal
        self._bar = Progress(
            TextColumn("searching"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=err,
            disable=quiet or self._plain,
        )
        self._task = self._bar.add_task("searching", total=total, said="")

    def __enter__(self) -> _progress:
        self._bar.start()
        self._begun = self._said = time.monotonic()
        self._held: int | None = None
        return self

    def __call__(self, evaluations: Sequence[Any]) -> None:
        done, now = len(evaluations), time.monotonic()
        if self._held is None:
            self._held, self._begun = done, now
        scores = [e.score for e in evaluations if e.status == "ok"]
        said = f"best {self.best(scores):.5f}" if scores else "best —"
        if done > self._held:
            said = f"{(done - self._held) / (now - self._begun):.2g}/s, {said}"
        if self.executor is not None:
            said += f", {self.executor.alive} evaluators"
        self._bar.update(self._task, completed=done, said=said)
        if self._plain and now - self._said > 10:
            self._said = now
            err.print(f"{done} of {self._total} evaluations, {said}", highlight=False, soft_wrap=True)
        self._then()

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


class _counting:  # noqa: N801 - used as a with block
    """A rich bar of things that are counted; silence where the output is no terminal."""

    def __init__(self, words: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn(words),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._task = self._bar.add_task(words, total=None)

    def __enter__(self) -> Any:
        self._bar.start()
        return self._update

    def _update(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


class _training_progress:  # noqa: N801 - used as a with block
    """A rich bar for each part of a training run; validations are printed."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=int(os.environ.get("RANK", "0")) > 0,
        )
        self._task = self._bar.add_task("starting", total=None, said="")

    def __enter__(self) -> Any:
        self._bar.start()
        return self._update

    def _update(self, record: dict[str, Any]) -> None:
        if "targets" in record:
            self._bar.update(self._task, description=f"teacher targets ({record['targets']})", total=record["of"])
            self._bar.advance(self._task, record["seconds"])
        elif "steps" in record:
            self._bar.reset(self._task, description=f"stage {record['stage']}", total=record["steps"], said="")
        elif "dev" in record:
            rows = ", ".join(f"{name} {sum(v) / len(v):.3f}" for name, v in record["dev"].items())
            err.print(f"step {record['step']}: dev teacher distance: {rows}")
        else:
            self._bar.update(self._task, completed=record["step"] + 1, said=f"loss {record['loss']:.3f}")

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


def main() -> None:
    """Runs `nas`; a user's mistake ends with its one line and exit status."""
    try:
        app()
    except NasError as error:
        err.print(f"nas: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(error.exit_status) from None
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        err.print(f"nas: {error.strerror or error}{where}", style="red", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
