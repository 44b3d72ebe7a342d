"""`nas bench`: how fast this machine scores, counts and trains."""

from __future__ import annotations

import typer

from nas.commands.common import JsonOption
from nas.commands.console import err, out, print_json, table
from nas.commands.options import verb

__all__ = ["app"]

app = typer.Typer(add_completion=False)


@verb(app, example="nas bench")
def bench(json: JsonOption = False) -> None:
    """Compare the speed of scoring, counting and training on this machine with plain ways: three minutes."""
    from nas.commands import speed_rows

    shown = table("median (least – most) of turns taken with the slow way", ("work", "against", "goal", "here", "note"))
    records = []
    with err.status("measuring") as status:
        for row in speed_rows.machine_rows():
            status.update(f"measured: {row.work}: {row.summary}")
            shown.add_row(row.work, row.against, row.goal, row.summary, row.note)
            records.append(vars(row))
    if json:
        print_json(records)
    else:
        out.print(shown)
