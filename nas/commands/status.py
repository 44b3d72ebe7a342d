"""`nas status`: how far a run or a sweep is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from nas.cluster.sweep import read_jobs
from nas.commands.common import JsonOption, costs_line
from nas.commands.console import out, print_json
from nas.commands.options import verb
from search_spaces import RunError
from search_spaces.types import JsonMapping, JsonObject

__all__ = ["app"]

app = typer.Typer(add_completion=False)


@verb(app, example="nas status runs/a")
def status(
    run: Annotated[str, typer.Argument(help="Run folder or sweep: a path, or an fsspec URL.")],
    json: JsonOption = False,
) -> None:
    """Show how far a run or a sweep is; it may still be running, on this machine or another."""
    from nas.runs.mirror import fetched, read_file
    from nas.runs.status import run_status

    sweep = read_file(run, "sweep.json")
    places = [run] if sweep is None else [f"{run}/runs/{name}" for name in read_jobs(sweep, f"{run}/sweep.json")]
    records: list[JsonObject] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, place in enumerate(places):
            try:
                records.append({**run_status(fetched(place, Path(scratch) / str(number))), "run": place})
            except RunError:
                if sweep is None:
                    raise
                records.append({"run": place, "state": "not begun", "evaluations": 0})
    if json:
        print_json(records[0] if sweep is None else records)
        return
    for record in records:
        out.print(_line(record), highlight=False, soft_wrap=True)


def _line(record: JsonMapping) -> str:
    state = record["state"] + (f" (process {record['process']})" if record.get("process") else "")
    parts = [f"{record['run']}: {state}", f"{record['evaluations']} of {record.get('evals', '?')} evaluations"]
    if record.get("failed"):
        parts.append(f"{record['failed']} failed")
    if record.get("per_second") and record["state"] == "running":
        parts.append(f"{record['per_second']:.3g}/s")
    if record.get("idle_seconds") is not None:
        parts.append(f"last {record['idle_seconds']:,.0f} s ago")
    if record.get("best_score") is not None:
        parts.append(f"best {record['best_score']:.6g} ({costs_line(record['best_costs'])})")
    return ", ".join(parts)
