"""`nas specialise`: a chosen subnet trained alone, from its slice of the supernet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.common import note_of_precision, read_subnet, require_device
from nas.commands.console import TrainingProgress, err, out
from nas.commands.options import verb
from nas.commands.search import run_settings
from nas.commands.tracking import Tracking, TrackingSettings
from search_spaces import NasError, RunError, Subnet
from supernet.training.recipe import SpecialiseSettings

__all__ = ["app", "finalists_of"]

app = typer.Typer(add_completion=False)


@verb(app, example="nas specialise runs/a --audio speech/manifest.jsonl --out specialised/")
def specialise(
    source: Annotated[Path, typer.Argument(help="Run folder, or a subnet's JSON file (with --supernet).")],
    out_: Annotated[Path, typer.Option("--out", help="Folder to write; run the same command again to continue.")],
    settings: SpecialiseSettings,
    tracked: TrackingSettings,
    supernet: Annotated[str | None, typer.Option(help="The supernet; required if the source is a JSON file.")] = None,
) -> None:
    """Train the chosen subnet alone, from its slice of the supernet, to give what the teacher gives."""
    from supernet.training.specialise import specialise as trained

    require_device(settings.device)
    if source.is_dir():
        chosen, subnets = finalists_of(source, settings.finalists)
        name = supernet or chosen
    else:
        if supernet is None:
            raise NasError(f"{source} is a subnet: say which supernet it is cut from (--supernet NAME|PATH)")
        if settings.finalists > 1:
            raise NasError("--finalists has no effect on one subnet: give the folder of a run")
        name, subnets = supernet, [read_subnet(source, None)]
    try:
        with (
            Tracking(tracked.log_to, out_, settings.to_dict()) as tracking,
            TrainingProgress(note_of_precision(settings.device, settings.precision)) as progress,
        ):
            record = trained(name, subnets, out_, settings, tracking.beside(progress))
    except KeyboardInterrupt:
        err.print(f"interrupted; run the same command again to continue ({out_})", soft_wrap=True)
        raise typer.Exit(130) from None
    if record is None:
        out.print(f"stopped; run the same command again to continue ({out_})", soft_wrap=True)
        return
    for row in record["finalists"]:
        out.print(f"subnet {row['id']}: {record['measure']} {row['before']:.4f} before, {row['after']:.4f} after")
    kept = "" if record["trained"] else ", as it was before the training, which is better on dev: try a lower rate"
    out.print(f"specialised: {record['id']}{kept}, in {out_ / 'supernet'}", soft_wrap=True)
    out.print(f"next: nas export {out_ / 'subnet.json'} --supernet {out_ / 'supernet'} --out exported/", soft_wrap=True)


def finalists_of(folder: Path, count: int) -> tuple[str, list[Subnet]]:
    """The supernet of a run, and its `count` best subnets, the winner first.

    The others are the best by the search's score, or by other speech if the winner was named by that.
    """
    from nas.report.run import read_report

    run = read_report(folder)
    if run.best is None:
        raise RunError(f"{folder} has no best subnet: nothing was scored, or no candidate kept its budgets")
    ranked = sorted((e for e in run.evaluations if e.ok), key=lambda e: e.score or 0.0, reverse=run.maximize)
    by_id = {e.subnet.id: e.subnet for e in ranked}
    rows = [by_id[row["id"]] for row in run.holdout["rows"] if row["id"] in by_id] if run.holdout else []
    subnets = dict.fromkeys([run.best.subnet, *rows, *by_id.values()])
    settings, _ = run_settings(folder)
    return settings.supernet, list(subnets)[:count]
