"""How fast subnets of HuBERT Base's shape with 27M params can be, with the whole front end and with narrower ones.

python -m benchmarks.elastic                        # about 5 minutes

Both spaces have the same embed dims, heads and FFN ratios. In each, the subnet of 26 to 27M params with the least
predicted latency is found exactly; the predictions are of a calibration over the elastic space. Then both winners, and
the best at each front end, are measured together.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks._common import command_line, header
from evaluators.costs import params
from evaluators.costs.latency.calibration import calibrate_latency
from evaluators.costs.latency.measure import measure
from evaluators.costs.latency.target import Target
from search_spaces import AdditiveTable, Feasible, Space, get_space
from supernet import HubertSupernet

CONSOLE = Console(width=140)
LIMITS = 27_000_000, 26_000_000


def space() -> Space:
    base = get_space("lighthubert-base")
    profiles = [(width,) * 7 for width in (128, 192, 256, 384, 512)]
    halves = tuple(part / 2 for part in range(1, 9))
    return replace(
        base,
        name="elastic",
        embed_dims=(256, 384, 512, 640),
        heads=((2, 4, 6, 8, 10, 12),) * 12,
        ffn_ratios=(halves,) * 12,
        front_ends=tuple(profiles),
    )


def negated(table: AdditiveTable) -> AdditiveTable:
    """For limits from below."""
    return AdditiveTable(table.space, "fewest", table.unit, -table.constant, tuple(-layer for layer in table.layers))


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--target", default="onnxruntime,threads=1,seconds=1")
    options = parser.parse_args()
    CONSOLE.print(header(), soft_wrap=True)
    torch.manual_seed(0)
    model, target = HubertSupernet(space()).eval(), Target.parse(options.target)
    calibration = calibrate_latency(model, target)
    winners = []
    for front_end in model.space.front_ends:
        part = replace(model.space, name="part", front_ends=(front_end,))
        latency = _in(part, calibration.model.table(), front_end)
        counts = params(part).table
        within = Feasible(part, [(counts, LIMITS[0]), (negated(counts), -LIMITS[1])])
        winners.append(within.best(latency, maximize=False))
    measured = measure(model, winners, target, seconds=40.0)
    shown = Table(title=f"least latency with 26 to 27M params on {target}", title_justify="left")
    for column in ("front end", "params", "predicted, ms", "measured, ms", "embed dim", "mean heads", "mean FFN ratio"):
        shown.add_column(column, justify="right")
    for subnet, ms in zip(winners, measured.ms, strict=True):
        channels = (subnet.front_end or model.space.network.channels)[0]
        predicted = float(calibration.model.predict([subnet])[0])
        rest = (f"{np.mean(subnet.heads):.1f}", f"{np.mean(subnet.ffn_ratios):.2f}")
        of = f"{params(model).of(subnet) / 1e6:.1f}M"
        shown.add_row(str(channels), of, f"{predicted:.1f}", f"{ms:.1f}", str(subnet.embed_dim), *rest)
    CONSOLE.print(shown)
    fixed, best = measured.ms[-1], measured.ms.min()
    CONSOLE.print(f"elastic: {fixed / best:.2f} times faster (each ± {np.median(measured.error):.1%})")


def _in(part: Space, table: AdditiveTable, front_end: tuple[int, ...]) -> AdditiveTable:
    """A table of the elastic space in the part with one front end."""
    place = table.space.front_ends.index(front_end)
    return AdditiveTable(part, table.name, table.unit, table.constant + table.layers[-1][..., place], table.layers[:-1])


if __name__ == "__main__":
    main()
