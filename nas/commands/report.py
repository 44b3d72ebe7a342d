"""`nas report`: what runs found, on the terminal, as a page, as figures, as an Optuna study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.common import JsonOption, write_page
from nas.commands.console import err, out, print_json
from nas.commands.options import verb
from search_spaces import space_from_dict

__all__ = ["app"]

app = typer.Typer(add_completion=False)


@verb(app, example="nas report runs/a runs/b --png figures/")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folder; further ones are compared with it.")],
    png: Annotated[Path | None, typer.Option(help="Folder for the figures as PNG files (needs Chrome).")] = None,
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
    written = [write_page(runs, runs[0] / "report.html")]
    if png is not None:
        from nas.report.html import write_pngs

        written += write_pngs(runs, png)
    if journal is not None:
        written.append(_study(runs[0], journal))
    for file in filter(None, written if not json else ()):
        out.print(f"wrote {file}", soft_wrap=True)


def _study(run: Path, file: Path) -> Path:
    from nas.objective import Objective
    from nas.runs.folder import read_run
    from nas.study import write_study

    settings, evaluations = read_run(run)
    objective = Objective(settings["maximize"], *settings["objectives"][1:])
    write_study(evaluations, space_from_dict(settings["space"]), objective, file)
    return file
