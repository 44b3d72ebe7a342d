"""`nas`: the command line. Verbs become function calls; nothing else lives here."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
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
    InfeasibleError,
    NasError,
    RunError,
    Space,
    Subnet,
    get_space,
    space_from_dict,
)

if TYPE_CHECKING:
    from supernet import HubertSupernet

__all__ = ["app", "main"]

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
    out_: Annotated[Path | None, typer.Option("--out", help="Run folder to write.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to go on with; its settings are kept.")] = None,
    space: Annotated[str | None, typer.Option(help="A .toml sub-space of the supernet's space.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Manifest of calibration speech.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Hugging Face folder of the teacher, with --audio.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Subnets proposed at a time.")] = 16,
    seconds: SecondsOption = 1.0,
    device: DeviceOption = "cpu",
    json_: JsonOption = False,
) -> None:
    """Find the best subnet within the budgets, and keep every evaluation in a run folder."""
    import nas
    from evaluators import scores
    from nas.report import report_run, summary

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
        "macs_seconds": seconds,
        "device": device,
        "audio": _absolute(audio),
        "teacher": _absolute(teacher),
    }
    if resume is not None:
        begun = _run_settings(resume)
        _refuse_changes(context, resume, begun, settings)
        settings = {**begun, **({} if evals is None else {"evals": evals})}
    elif out_ is None:
        out_ = _free_folder(Path("runs"))
    folder = resume or out_
    assert folder is not None
    model = _load(settings["supernet"], settings["device"])
    chosen = _sub_space(model, settings["space"])
    costs = _costs(model, chosen, settings["macs_seconds"], [*settings["budgets"], *settings["objectives"]])
    aim = settings.get("score", "distillation")  # runs of before had this one alone
    judge = scores.get_score(aim, model, settings["device"], settings["audio"], settings["teacher"])
    with _progress(settings["evals"], max if judge.higher_is_better else min, quiet=json_) as on_progress:
        try:
            result = nas.search(
                chosen,
                judge,
                costs=costs,
                budgets=tuple(settings["budgets"]),
                searcher=settings["searcher"],
                evals=settings["evals"],
                seed=settings["seed"],
                out=folder,
                resume=resume is not None,
                batch=settings["batch"],
                objectives=tuple(settings["objectives"]),
                on_progress=on_progress,
                settings={**settings, "command": _command()},
            )
        except KeyboardInterrupt:
            err.print(f"interrupted; every finished evaluation is kept. Go on with: nas search --resume {folder}")
            raise typer.Exit(130) from None
    page = _page([folder], folder / "report.html")
    if json_:
        _print_json(summary(folder))
    else:
        out.print(report_run(folder))
        out.print(f"run folder: {folder}" + (f"; open {page}" if page else ""))
    if result.evaluations and result.best is None:
        raise _nothing_found(result.evaluations, settings["budgets"])
    if not json_ and result.best:
        out.print(f"next: nas export {folder} --out exported/")


def _nothing_found(evaluations: Sequence[Any], budgets: Sequence[str]) -> NasError:
    """Why a search that evaluated something has no best."""
    over = [e for e in evaluations if e.status == "over budget"]
    if not over:
        return CheckFailed(f"all {len(evaluations)} evaluations failed; the first: {evaluations[0].error}")
    fastest = min(over, key=lambda e: e.costs["latency_ms"])
    return InfeasibleError(
        f"none of the {len(over)} subnets measured keeps {' and '.join(budgets)}; the fastest took "
        f"{fastest.costs['latency_ms']:.1f} ms (subnet {fastest.subnet.to_json()})"
    )


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folder; more of them are compared with it.")],
    png: Annotated[Path | None, typer.Option(help="Folder for the figures as PNG files (needs Chrome).")] = None,
    journal: Annotated[Path | None, typer.Option(help="File for an Optuna study, for optuna-dashboard.")] = None,
    json_: JsonOption = False,
) -> None:
    """Show what a run found, and write its report.html."""
    from nas.report import report_run, summary

    if json_:
        _print_json(summary(runs[0]) if len(runs) == 1 else [summary(run) for run in runs])
    else:
        for run in runs:
            out.print(report_run(run))
    written = [_page(runs, runs[0] / "report.html")]
    if png is not None:
        from nas.html_report import write_pngs

        written += write_pngs(runs, png)
    if journal is not None:
        written.append(_study(runs[0], journal))
    for file in filter(None, written if not json_ else ()):
        out.print(f"wrote {file}")


def _page(runs: Sequence[Path], file: Path) -> Path | None:
    """The HTML report, or None where plotly is not installed."""
    if find_spec("plotly") is None:
        return None
    from nas.html_report import write_html

    return write_html(runs, file)


def _study(run: Path, file: Path) -> Path:
    from nas.objective import Objective
    from nas.report import read_run
    from nas.searchers.optuna_samplers import write_study

    settings, evaluations = read_run(run)
    objective = Objective(settings["maximize"], *settings["objectives"][1:])
    write_study(evaluations, space_from_dict(settings["space"]), objective, file)
    return file


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
    from evaluators.costs import latency_ms, macs, params
    from evaluators.costs.counters import counters

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
    latency = latency_ms(model, seconds=max(seconds, 2.0), threads=threads, device=device)
    measured, largest = latency.measure([chosen, model.space.largest])
    if json_:
        _print_json(
            {
                "subnet": chosen.to_dict(),
                "id": chosen.id,
                **own,
                "macs_seconds": seconds,
                "latency_ms": measured.value,
                "latency_spread_ms": measured.spread,
                "latency_of": measured.method,
                "largest_latency_ms": largest.value,
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
        f"latency {measured.value:.1f} ms (spread {measured.spread:.1f}), largest subnet {largest.value:.1f} ms; "
        f"exported module, {measured.method}"
    )


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
    loss: Annotated[str, typer.Option(help="mse, l1 or l1+cosine.")] = "mse",
    in_place: Annotated[float, typer.Option(help="Share of the largest's predictions in the others' targets.")] = 0.0,
    ema: Annotated[float, typer.Option(help="Decay of a running mean of the weights, such as 0.999; 0: none.")] = 0.0,
    teacher_layers: Annotated[str | None, typer.Option(help="Hidden states to regress, such as 2,4,6.")] = None,
    targets: Annotated[Path | None, typer.Option(help="Folder to keep the teacher's targets in.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "bf16",
    device: DeviceOption = "cpu",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    minutes: Annotated[float | None, typer.Option(help="Stop with a checkpoint after this long.")] = None,
) -> None:
    """Distil a supernet from a teacher: stage 1 trains the largest subnet, stage 2 all of them."""
    from supernet.teacher import load_teacher
    from supernet.train import Recipe, distil

    common: dict[str, Any] = {
        "batch_seconds": batch_seconds,
        "mask_prob": mask_prob,
        "mask_from": mask_from,
        "sampler": sampler,
        "loss": loss,
        "in_place": in_place,
        "ema": ema,
        "precision": precision,
        "seed": seed,
    }
    recipes = [
        Recipe(stage=1, steps=stage1_steps, learning_rate=learning_rate, **common),
        Recipe(stage=2, steps=stage2_steps, learning_rate=stage2_learning_rate, **common),
    ]
    layers = _layer_list(teacher_layers)
    _check_device(device)
    start = None if init is None else _load(init, device)
    loaded = load_teacher(teacher, layers, device)
    with _training_progress() as progress:
        try:
            finished = distil(
                start.space if start else get_space(space),
                loaded,
                audio,
                out_,
                recipes[1:] if start else recipes,
                device,
                progress,
                targets,
                float("inf") if minutes is None else 60 * minutes,
                start,
            )
        except KeyboardInterrupt:
            err.print(f"interrupted; run the same command again to go on from the last checkpoint in {out_}")
            raise typer.Exit(130) from None
    out.print(f"supernet: {finished}" if finished else f"stopped; run the same command again to go on ({out_})")


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
    hidden: Annotated[int, typer.Option(min=0, help="Units of asr's BLSTM each way; 0: a linear head.")] = 0,
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
    with _count_progress("hidden states") as done:
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
        if isinstance(value, dict):
            out.print(f"{name} {value['value']:.4f} (95 % {value['low']:.4f} – {value['high']:.4f})")
    sizes = ", ".join(f"{data[part]:,} {part}" for part in ("train", "dev", "test"))
    out.print(f"{task} on {data['name']}: {sizes} recordings")
    for said in data["left_out"]:
        out.print(f"left out: {said}")


@app.command()
def finetune(
    model: Annotated[Path, typer.Option(help="Folder of `nas export` (safetensors).")],
    task: Annotated[str, typer.Option(help=f"One of {', '.join(name for name in TASKS if name != 'verification')}.")],
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
    from evaluators.tasks.finetune import FinetuneRecipe
    from evaluators.tasks.finetune import finetune as tune

    _check_device(device)
    recipe = FinetuneRecipe(steps, learning_rate, batch_seconds, seed)
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


def _costs(model: HubertSupernet, space: Space, seconds: float, named: Sequence[str]) -> dict[str, Any]:
    from evaluators.costs import latency_ms, macs, params

    costs: dict[str, Any] = {"params": params(space), "macs": macs(space, seconds)}
    if any(words.strip().startswith("latency_ms") for words in named):
        costs["latency_ms"] = latency_ms(model)
    return costs


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
    options = {"budget": "budgets", "objective": "objectives", "seconds": "macs_seconds"}
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
        "seconds",
    ):
        key = options.get(option, option)
        said = getattr(context.get_parameter_source(option), "name", "") == "COMMANDLINE"
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


def _layer_list(words: str | None) -> tuple[int, ...] | None:
    if words is None:
        return None
    try:
        return tuple(int(word) for word in words.split(","))
    except ValueError:
        raise NasError(f"--teacher-layers must be whole numbers such as 2,4,6; got {words!r}") from None


def _command() -> str:
    return shlex.join(["nas", *sys.argv[1:]])


def _joined(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, (int, float)) else str(value) for value in values)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _print_json(record: Any) -> None:
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


class _progress:  # noqa: N801 - used as a with block
    """A rich bar of evaluations; plain silence where output is JSON or not a terminal."""

    def __init__(self, total: int, best: Any, quiet: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("searching"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("best {task.fields[best]}"),
            console=err,
            disable=quiet or not err.is_terminal,
        )
        self._best, self._task = best, self._bar.add_task("searching", total=total, best="—")

    def __enter__(self) -> Any:
        self._bar.start()
        return self._update

    def _update(self, evaluations: Sequence[Any]) -> None:
        scores = [e.score for e in evaluations if e.status == "ok"]
        said = f"{self._best(scores):.5f}" if scores else "—"
        self._bar.update(self._task, completed=len(evaluations), best=said)

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


class _count_progress:  # noqa: N801 - used as a with block
    """A rich bar of things that are counted; silence where nobody watches."""

    def __init__(self, name: str) -> None:
        from rich.progress import Progress

        self._bar = Progress(console=err, disable=not err.is_terminal)
        self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> Any:
        self._bar.start()
        return lambda count, of: self._bar.update(self._task, completed=count, total=of)

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
