"""Numbers, costs, budgets, durations and runs as short plain text, for pages and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.report.run import RunReport
from nas.report.run_json import Measured
from nas.runs.ledger import Evaluation
from search_spaces.budget import Budget
from search_spaces.types import JsonMapping

__all__ = [
    "alike_text",
    "budget_text",
    "budgets_text",
    "cost_title",
    "duration",
    "gain_of_freedom",
    "interval_text",
    "measurements",
    "run_names",
    "sentence",
    "short",
    "spaced",
    "thinned",
    "values_text",
]

_COSTS = {
    "params": "parameters",
    "macs": "MACs",
    "memory_bytes": "memory (bytes)",
    "latency_ms": "latency (ms)",
}


def short(value: float | None, digits: int = 3) -> str:
    """A number with few digits: 2.48M, 196M, 20.5; "unknown" for None."""
    if value is None:
        return "unknown"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{max(digits, 4)}g}"


def cost_title(cost: str, macs_seconds: float | None, *, start: bool = True) -> str:
    """A cost in words, with its unit; `macs_seconds` is the length of audio that the run's MACs are for.

    `start`: whether it starts a sentence.
    """
    name, at, target = cost.partition("@")
    title = _COSTS.get(name, name) + (f" on {spaced(target)}" if at else "")
    if cost == "macs" and macs_seconds:
        title = f"MACs for {macs_seconds:g} s of audio"
    return sentence(title) if start else title


def sentence(text: str) -> str:
    """`text` with a capital at its start and nowhere changed else: str.capitalize would make 2.5M 2.5m."""
    return text[:1].upper() + text[1:]


def spaced(target: str) -> str:
    """The target of a latency with spaces, at which a line may break: onnxruntime, threads=1, seconds=2."""
    return target.replace(",", ", ")


def budget_text(budget: Budget) -> str:
    """A budget as people write it: params ≤ 2.5M, latency_ms ≤ 20 on onnxruntime, threads=1."""
    cost, at, target = budget.cost.partition("@")
    return f"{cost} ≤ {short(budget.limit, 6)}" + (f" on {spaced(target)}" if at else "")


def budgets_text(budgets: Sequence[Budget]) -> str:
    """Several budgets in one phrase; empty if there are none."""
    return " and ".join(map(budget_text, budgets))


def measurements(measured: Measured) -> list[str]:
    """The prediction, its bound, the measurement and its upper bound, in ms."""
    values = (
        measured["predicted_ms"],
        measured["bound_ms"],
        measured["measured_ms"],
        measured["measured_at_most_ms"],
    )
    return [f"{value:.4g}" for value in values]


def duration(seconds: float) -> str:
    """A time with the two units that matter: 12.5 s, 3 min 20 s, 1 h 5 min."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def run_names(runs: Sequence[RunReport]) -> list[str]:
    """A name for each run by searcher and seed, with its folder where those are not unique."""
    names = [f"{run.searcher}, seed {run.seed}" for run in runs]
    return [f"{name} ({Path(run.folder).name})" if names.count(name) > 1 else name for name, run in zip(names, runs)]


def gain_of_freedom(best: Evaluation, uniform: Evaluation, maximize: bool) -> str:
    """How much better the winner scores than the best uniform subnet, in words."""
    if best.subnet == uniform.subnet:
        return "it is the winner"
    gain = ((best.score or 0.0) - (uniform.score or 0.0)) * (1 if maximize else -1)
    return f"the winner is better by {gain:.3g}"


def values_text(values: Sequence[float]) -> str:
    """Of each layer: 3 × 12, if all are alike, else all of them."""
    alike = len(values) > 1 and len(set(values)) == 1
    return f"{values[0]:g} × {len(values)}" if alike else " ".join(f"{value:g}" for value in values)


def alike_text(uniform: Evaluation) -> str:
    """A subnet whose layers are alike, on one line."""
    subnet = uniform.subnet
    front = f", front end {values_text(subnet.front_end)}" if subnet.front_end else ""
    return (
        f"{subnet.id}: embed dim {subnet.embed_dim}, depth {subnet.depth}, heads {subnet.heads[0]}, "
        f"FFN ratio {subnet.ffn_ratios[0]:g}{front}"
    )


def interval_text(figure: JsonMapping) -> str:
    """A figure with its interval: 0.102 (0.081 – 0.125)."""
    return f"{figure['value']:.3f} ({figure['low']:.3f} – {figure['high']:.3f})"


def thinned(points: Sequence[Evaluation], length: int) -> Sequence[Evaluation]:
    """At most `length` of the points, evenly spaced, with both ends."""
    if len(points) <= length:
        return points
    return [points[round(i * (len(points) - 1) / (length - 1))] for i in range(length)]
