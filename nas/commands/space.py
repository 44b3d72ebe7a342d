"""`nas space`: what a space holds, and how much of it fits budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from nas.commands.common import BudgetOption, JsonOption, SecondsOption, limits
from nas.commands.console import out, print_json
from nas.commands.options import verb
from search_spaces import AdditiveTable, Feasible, Space, get_space
from search_spaces.types import JsonMapping, JsonObject

__all__ = ["app"]

app = typer.Typer(add_completion=False)


@verb(app, example="nas space lighthubert-small --budget 'params<=27M'")
def space(
    name: Annotated[str, typer.Argument(help="A named space, or a TOML file.")],
    budget: BudgetOption = None,
    seconds: SecondsOption = 1.0,
    json: JsonOption = False,
) -> None:
    """Show a space: its choices, its size, its range of costs, and how many subnets fit the budgets."""
    from evaluators.costs import macs, memory_bytes, params

    result = get_space(name)
    costs = {"params": params(result), "macs": macs(result, seconds), "memory_bytes": memory_bytes(result)}
    tables = {cost: each.table for cost, each in costs.items()}
    within = limits(tables, budget or [])
    fits = Feasible(result, within)
    shown = [cost for cost in tables if cost != "memory_bytes" or any(t.name == cost for t, _ in within)]
    record: JsonObject = {
        "space": result.to_dict(),
        "size": result.size,
        "fits": fits.count(),
        "range": {cost: list(tables[cost].range()) for cost in shown},
        "smallest": result.smallest.to_dict(),
        "largest": result.largest.to_dict(),
    }
    if json:
        print_json(record)
    else:
        out.print(_table(result, record, within))
    if not record["fits"]:
        fits.cheapest(tables["params"])  # raises, naming the nearest possible


def _table(space: Space, record: JsonMapping, within: Sequence[tuple[AdditiveTable, int | float]]) -> Table:
    shown = Table(title=f"space {space.name}", show_header=False, title_justify="left")
    description = space.to_dict()
    shown.add_row("embed dims", _joined(description["embed_dims"]))
    shown.add_row("heads", _joined(description["heads"]))
    shown.add_row("FFN ratios", _joined(description["ffn_ratios"]))
    shown.add_row("depths", _joined(space.depths))
    shown.add_row("subnets", f"{record['size']:,}")
    for cost, (low, high) in record["range"].items():
        shown.add_row(cost, f"{low:,} – {high:,}")
    if within:
        share = record["fits"] / record["size"]
        budgets = " and ".join(f"{table.name}<={limit:,}" for table, limit in within)
        shown.add_row(budgets, f"{record['fits']:,} subnets fit ({share:.3%})")
    return shown


def _joined(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, (int, float)) else str(value) for value in values)
