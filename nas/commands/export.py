"""`nas export`: the chosen subnet as files of its own, read back and compared with the supernet's slice."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.common import command_line, load_model, read_subnet, weights_of
from nas.commands.console import out, read_json, table
from nas.commands.identity import check_identity, identify
from nas.commands.options import verb
from nas.commands.search import run_identity, run_settings
from search_spaces import Budget, CheckFailed, NasError, RunError, Subnet
from search_spaces.types import JsonObject

if TYPE_CHECKING:
    from supernet import HubertSupernet
    from supernet.export.base import Rounded

__all__ = ["app"]

app = typer.Typer(add_completion=False)


def _list_formats(asked: bool) -> None:
    """Prints the table of formats, and exits; importing them takes torch, so it is done on request only."""
    if not asked:
        return
    from supernet.export import EXPORTERS, get_exporter

    shown = table("formats", ("format", "dtypes", "what is written"))
    for name in EXPORTERS:
        exporter = get_exporter(name)
        shown.add_row(name, ", ".join(exporter.dtypes), (exporter.__doc__ or "").splitlines()[0])
    out.print(shown)
    raise typer.Exit()


@verb(app, example="nas export runs/a --format json,safetensors,onnx --out exported/")
def export(
    source: Annotated[Path, typer.Argument(help="Run folder, or a subnet's JSON file (with --supernet).")],
    out_: Annotated[Path, typer.Option("--out", help="Folder to write; must be new or empty.")],
    format_: Annotated[
        str, typer.Option("--format", help="Comma-separated formats; --list shows them.")
    ] = "json,safetensors",
    supernet: Annotated[str | None, typer.Option(help="The supernet; required if the source is a JSON file.")] = None,
    dtype: Annotated[str, typer.Option(help="fp32, or for some formats fp16 or int8.")] = "fp32",
    audio: Annotated[
        Path | None, typer.Option(help="Recordings to score rounded weights on; default: the run's.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="Hugging Face folder of the teacher, with --audio.")] = None,
    opset: Annotated[int | None, typer.Option(help="Opset of ONNX files, for an older onnxruntime.")] = None,
    push: Annotated[
        str | None,
        typer.Option(help="Upload the format hf to the Hub, as org/name; as visible as new models of yours are."),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_list_formats, help="Show the formats, and exit.")
    ] = False,
) -> None:
    """Write the chosen subnet as files of its own, read them back, and compare them with the supernet's slice."""
    formats = [part.strip() for part in format_.split(",") if part.strip()]
    _check_options(dtype, audio, teacher)
    if push is not None:
        _check_push(push, formats)
    from evaluators.costs import params  # torch takes seconds, so that refusals come first
    from supernet.export import export_subnet
    from supernet.hub import push_folder

    chosen = _from_run(source, supernet) if source.is_dir() else _from_file(source, supernet)
    model = load_model(chosen.supernet, "cpu")
    check_identity(chosen.identity, identify(model), source)
    model.space.check(chosen.subnet)
    count = params(model).of(chosen.subnet)
    about = {**chosen.about, "name": Path(chosen.supernet).name, "supernet": model.provenance}
    about["costs"] = about.get("costs") or {"params": count}
    _check_budgets(about.get("budgets") or (), count)
    speech = {"audio": str(audio.absolute()), "teacher": _text(teacher)} if audio else chosen.speech
    if dtype != "fp32" and not audio:
        check_identity(chosen.identity, identify(model, speech["audio"], speech["teacher"]), source)
    messages: list[str] = []
    score = _export_score(model, chosen.subnet, speech, about, messages) if dtype != "fp32" else None
    files = export_subnet(model, chosen.subnet, out_, formats, about, dtype, score, opset)
    for file in files:
        out.print(f"wrote {file} ({file.stat().st_size:,} bytes)", soft_wrap=True)
    for message in messages:
        out.print(message, soft_wrap=True)
    same = "equal to" if dtype == "fp32" else f"within {dtype}'s rounding of"
    out.print(f"checked: read back, {same} the supernet's slice; {count:,} params", soft_wrap=True)
    if push is not None:
        out.print(f"pushed: {push_folder(out_ / 'hf', push)}", soft_wrap=True)


def _check_options(dtype: str, audio: Path | None, teacher: Path | None) -> None:
    if teacher is not None and audio is None:
        raise NasError("--teacher has no effect without --audio: give --audio too, or leave --teacher out")
    if audio is not None and dtype == "fp32":
        raise NasError("--audio has no effect with --dtype fp32: only rounded weights are scored again")


def _check_push(name: str, formats: Sequence[str]) -> None:
    from supernet.hub import require_upload

    if "hf" not in formats:
        raise NasError(f"--push uploads the format hf, and --format is {','.join(formats)}: add hf to it")
    require_upload(name)


# -------------------------------------------------------------------- what is exported


@dataclass(frozen=True)
class _Source:
    """The subnet to export, its supernet, the speech to score it on, and what the model card tells about it."""

    supernet: str
    subnet: Subnet
    about: JsonObject
    speech: dict[str, str | None] = field(default_factory=lambda: {"audio": None, "teacher": None})
    identity: object = None


def _from_run(folder: Path, supernet: str | None) -> _Source:
    from nas.runs.folder import read_settings

    settings, _ = run_settings(folder)
    best = read_json(folder / "best.json", "") if (folder / "best.json").exists() else _best_so_far(folder)
    about = {
        "command": command_line(),
        "costs": best.get("costs"),
        "score": best.get("score"),
        "budgets": read_settings(folder).get("budgets"),  # not the settings': these may be shares of the largest
        "measured": best.get("measured"),
        "trust": read_settings(folder).get("trust"),
    }
    subnet = best.get("subnet")
    if not isinstance(subnet, dict):
        raise NasError(f"{folder / 'best.json'} holds no subnet; got {subnet!r:.80}")
    speech = {"audio": settings.audio, "teacher": settings.teacher}
    return _Source(supernet or settings.supernet, Subnet.from_dict(subnet), about, speech, run_identity(folder))


def _best_so_far(folder: Path) -> Mapping[str, object]:
    """The best of the evaluations of a run that has not ended, as a best.json has it."""
    from nas.objective import Objective
    from nas.runs.folder import read_run

    settings, evaluations = read_run(folder)
    if settings.get("verification"):
        raise CheckFailed(f"{folder} has no best: no candidate kept its budgets when measured again")
    best = Objective(settings["maximize"]).best(evaluations)
    if best is None:
        raise RunError(f"{folder} has nothing to export: none of its {len(evaluations)} evaluations has a score")
    warnings.warn(
        f"{folder} has not ended: exporting the best of {len(evaluations)} of {settings['evals']} evaluations",
        stacklevel=2,
    )
    return best.to_dict()


def _from_file(file: Path, supernet: str | None) -> _Source:
    if supernet is None:
        raise NasError(f"{file} is a subnet: say which supernet it is cut from (--supernet NAME|PATH)")
    subnet, weights = read_subnet(file, None), weights_of(file)
    identity = None if weights is None else {"supernet": weights}
    return _Source(supernet, subnet, {"command": command_line()}, identity=identity)


def _check_budgets(budgets: Iterable[str], params: int) -> None:
    for budget in (Budget.parse(text, known=None) for text in budgets):
        if budget.cost == "params" and params > budget.limit:
            raise CheckFailed(f"the exported subnet has {params:,} params, over its budget of {budget.limit:,}")


def _export_score(
    model: HubertSupernet,
    subnet: Subnet,
    speech: dict[str, str | None],
    about: JsonObject,
    messages: list[str],
) -> Callable[[Rounded], float]:
    """Scores exports whose weights are rounded; what they lose is printed, and goes into the model card."""
    from evaluators import scores

    distance = scores.distillation(model, audio=speech["audio"], teacher=speech["teacher"])
    about["score_fp32"] = exact = distance([subnet])[0]
    about["score_of"] = f"{distance.seconds:g} s of {distance.source}"
    if not distance.hears_front_end:
        about["score_of"] += ", from the front end's features on: give --audio to include the front end"

    def score(run: Rounded) -> float:
        rounded: float = distance.of_export(subnet, run)
        messages.append(f"score {rounded:.5f}, {rounded - exact:+.5f} of float32's {exact:.5f} ({about['score_of']})")
        return rounded

    return score


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
