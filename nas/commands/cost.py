"""`nas cost`: what a subnet costs, counted by us and by others, and measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.common import (
    DeviceOption,
    JsonOption,
    SecondsOption,
    SupernetOption,
    load_model,
    read_subnet,
)
from nas.commands.console import out, print_json, table
from nas.commands.options import verb

if TYPE_CHECKING:
    from rich.table import Table

    from evaluators.costs.counters import Count
    from search_spaces import Subnet

__all__ = ["app"]

app = typer.Typer(add_completion=False)


@verb(app, example="nas cost --supernet hubert-tiny --subnet exported/subnet.json")
def cost(
    supernet: SupernetOption = "hubert-tiny",
    subnet: Annotated[Path | None, typer.Option(help="JSON file of a subnet; default: the largest.")] = None,
    seconds: SecondsOption = 1.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the measured latency.")] = 1,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Show what a subnet costs: our count, other counters and what each did not count, and measured latency."""
    from evaluators.costs import macs, params
    from evaluators.costs.counters import counters
    from evaluators.costs.latency.measure import measure
    from evaluators.costs.latency.target import Target

    model = load_model(supernet, device)
    chosen = read_subnet(subnet, model.space) if subnet else model.space.largest
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
    latency, largest = timings.ms.tolist()
    error = float(timings.error[0])
    if json:
        measured = {
            "latency_ms": latency,
            "latency_error": error,
            "latency_target": str(target),
            "largest_latency_ms": largest,
        }
        about = {"subnet": chosen.to_dict(), "id": chosen.id, **own, "macs_seconds": seconds}
        print_json({**about, **measured, "counters": [vars(row) for row in others]})
        return
    out.print(_table(chosen, seconds, own, others))
    out.print(
        f"latency {latency:.1f} ms (± {error:.1%}), largest subnet {largest:.1f} ms; exported module, {target}",
        soft_wrap=True,
    )


def _table(subnet: Subnet, seconds: float, own: dict[str, int], others: list[Count]) -> Table:
    columns = ("counter", "params", "MACs", "of ours", "did not count")
    shown = table(f"subnet {subnet.id}, {seconds:g} s of audio", columns, numeric=columns[1:4])
    shown.add_row(
        "ours (LightHuBERT's convention)",
        f"{own['params']:,}",
        f"{own['macs']:,}",
        "1.000",
        "norms, softmax, GELU, biases",
    )
    shown.add_row("ours (exported module)", f"{own['params_exported']:,}", "", "", "the mask embedding, not exported")
    for row in others:
        ratio = "" if row.macs is None else f"{row.macs / own['macs']:.3f}"
        shown.add_row(row.counter, _number(row.params), _number(row.macs), ratio, row.unseen)
    return shown


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
