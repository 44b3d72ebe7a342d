"""`nas space`: what a space holds, and how much of it fits budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from nas.commands.common import BudgetOption, JsonOption, SecondsOption, limits
from nas.commands.completion import completer_of
from nas.commands.console import out, print_json
from nas.commands.options import verb
from search_spaces import SPACES, AdditiveTable, CheckpointError, Feasible, NasError, Space, get_space
from search_spaces.files import write_text
from search_spaces.hubert import to_toml
from search_spaces.proposals import PROPOSALS, proposed_space
from search_spaces.types import JsonMapping, JsonObject

__all__ = ["app"]

app = typer.Typer(add_completion=False)


@verb(app, example="nas space lighthubert-small --budget 'params<=27M'")
def space(
    name: Annotated[
        str,
        typer.Argument(
            help="A named space, a TOML file, or a model: then spaces are proposed for it.",
            autocompletion=completer_of("space"),
        ),
    ],
    budget: BudgetOption = None,
    propose: Annotated[
        str | None, typer.Option(help="For a model, only the space of this kind: coarse, fine or uniform.")
    ] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="Write the proposed space as a TOML file.")] = None,
    seconds: SecondsOption = 1.0,
    json: JsonOption = False,
) -> None:
    """Show a space: its choices, its size, its range of costs, and how many subnets fit the budgets."""
    if out_ is not None and propose is None:
        raise NasError("--out has no effect without --propose: which space should be written?")
    if name in SPACES or name.endswith(".toml"):
        if propose is not None:
            raise NasError(f"--propose is for a model; {name} is a space already")
        _show(get_space(name), budget, seconds, json)
        return
    spaces = _proposed(name, propose)
    if propose is None:
        _show_proposals(spaces, seconds, json)
        return
    (own,) = spaces.values()
    if out_ is not None:
        write_text(out_, to_toml(own))
    _show(own, budget, seconds, json)


def _proposed(name: str, kind: str | None) -> dict[str, Space]:
    """Spaces for the network of a model, by kind; raises `NasError` if it is no model either."""
    from supernet import load_supernet

    try:
        model = load_supernet(name)
    except CheckpointError as error:
        known = f"{', '.join(SPACES)}, or a path to a .toml file"
        raise NasError(f"unknown space '{name[:200]}'; known: {known}; and it is no model: {error}") from None
    stem = name.rstrip("/").split("/")[-1] or "model"
    kinds = PROPOSALS if kind is None else (kind,)
    return {each: proposed_space(model.space.network, each, f"{stem}-{each}") for each in kinds}


def _show_proposals(spaces: Mapping[str, Space], seconds: float, json: bool) -> None:
    """Each proposal with its size and range of costs."""
    from evaluators.costs import macs, params

    rows: list[JsonObject] = []
    for kind, each in spaces.items():
        ranges = {cost.name: list(cost.table.range()) for cost in (params(each), macs(each, seconds))}
        alike = Feasible(each, uniform=True).count()
        rows.append(
            {"kind": kind, "what": PROPOSALS[kind], "size": each.size, "uniform": alike, "range": ranges,
             "space": each.to_dict()}
        )  # fmt: skip
    if json:
        print_json({"proposals": rows})
        return
    shown = Table(title="spaces for this model", title_justify="left")
    shown.add_column("space")
    for column in ("subnets", "uniform", "params", "MACs"):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        low_high = [f"{low / 1e6:,.1f} – {high / 1e6:,.1f} M" for low, high in row["range"].values()]
        size = f"{row['size']:,}" if row["size"] < 10**9 else f"{row['size']:.2g}"
        shown.add_row(row["kind"], size, f"{row['uniform']:,}", *low_high)
    out.print(shown)
    for row in rows:
        out.print(f"{row['kind']}: {row['what']}", soft_wrap=True)
    out.print("next: nas space MODEL --propose fine --out space.toml, or nas search --space fine …", soft_wrap=True)


def _show(result: Space, budget: Sequence[str] | None, seconds: float, json: bool) -> None:
    """A space as a table, or as JSON."""
    from evaluators.costs import macs, memory_bytes, params

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
    if space.elastic_front_end:
        shown.add_row("front ends", _joined(description["front_ends"]))
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
