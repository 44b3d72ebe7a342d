"""`nas report`: what runs found, on the terminal, as a page, as figures, as an Optuna study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.common import JsonOption, confine, load_model
from nas.commands.console import err, out, print_json
from nas.commands.identity import check_identity, identify
from nas.commands.options import verb
from nas.commands.search import run_identity, run_settings
from search_spaces import NasError, space_from_dict

if TYPE_CHECKING:
    from nas.runs.ledger import Evaluation

__all__ = ["app"]

app = typer.Typer(add_completion=False)
FIGURES = "Figures (need Chrome)"


@verb(app, example="nas report runs/a runs/b --png figures/")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folder; further ones are compared with it.")],
    largest: Annotated[
        bool, typer.Option("--largest", help="Score the largest subnet too, for the page and figures.")
    ] = False,
    png: Annotated[Path | None, typer.Option(help="Folder for the figures as PNG.", rich_help_panel=FIGURES)] = None,
    svg: Annotated[Path | None, typer.Option(help="Folder for the figures as SVG.", rich_help_panel=FIGURES)] = None,
    front: Annotated[
        Path | None, typer.Option(help="File for the front alone, .svg or .png.", rich_help_panel=FIGURES)
    ] = None,
    journal: Annotated[Path | None, typer.Option(help="File for an Optuna study, for optuna-dashboard.")] = None,
    json: JsonOption = False,
) -> None:
    """Show what a run found, and write its report.html."""
    from nas.report.run import differences, read_report
    from nas.report.summary import report_run, summary

    if json:
        print_json(summary(runs[0]) if len(runs) == 1 else [summary(run) for run in runs])
    else:
        for run in runs:
            out.print(report_run(run))
    differ = differences([read_report(run) for run in runs]) if len(runs) > 1 else []
    if differ:
        err.print(f"note: these runs differ in {', '.join(differ)}: their scores cannot be compared", soft_wrap=True)
    written = _figures(runs, _largest(runs[0]) if largest else None, {"png": png, "svg": svg}, front)
    if journal is not None:
        written.append(_study(runs[0], journal))
    for file in written if not json else ():
        out.print(f"wrote {file}", soft_wrap=True)


def _figures(
    runs: Sequence[Path], largest: Evaluation | None, folders: Mapping[str, Path | None], front: Path | None
) -> list[Path]:
    """Writes the page, if plotly is installed, and the images that were asked for."""
    from nas.report.figures.images import write_front, write_images
    from nas.report.html import write_html

    written = [write_html(runs, runs[0] / "report.html", largest)] if find_spec("plotly") else []
    for kind, folder in folders.items():
        written += write_images(runs, folder, kind, largest) if folder else []
    return written + ([write_front(runs, front, largest)] if front else [])


def _largest(run: Path) -> Evaluation:
    """The largest subnet of the run's space, scored by the run's supernet and speech."""
    from evaluators.costs import CostContext, get_cost
    from evaluators.scores import get_score
    from nas.report.run import read_report
    from nas.runs.ledger import Evaluation

    if (known := read_report(run)).largest is not None:
        raise NasError(f"--largest: {run} has scored the largest subnet, and shows it; leave the option out")
    settings, calibrations = run_settings(run)
    model = load_model(settings.supernet, settings.device)
    check_identity(run_identity(run), identify(model, settings.audio, settings.teacher, settings.space), run)
    space = confine(model, settings.space)
    parts = settings.score, model, settings.device, settings.audio, settings.teacher, settings.precision
    contexts = {
        name: CostContext(space, model, settings.macs_seconds, calibration=calibrations.get(name))
        for name in (known.best.costs if known.best else ())
    }
    costs = {name: get_cost(name, context).of(space.largest) for name, context in contexts.items()}
    return Evaluation(-1, space.largest, costs, float(get_score(*parts)([space.largest])[0]))


def _study(run: Path, file: Path) -> Path:
    from nas.objective import Objective
    from nas.runs.folder import read_run
    from nas.study import write_study

    settings, evaluations = read_run(run)
    objective = Objective(settings["maximize"], *settings["objectives"][1:])
    write_study(evaluations, space_from_dict(settings["space"]), objective, file)
    return file
