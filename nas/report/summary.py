"""What a run produced: as plain containers for JSON, or as tables for a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nas.report.formatting import alike_text, gain_of_freedom, measurements, thinned, values_text
from nas.report.run import RunReport, checked, read_report
from nas.report.run_json import Holdout, Trust, Verification
from nas.runs.ledger import Evaluation

__all__ = ["report_run", "summary"]

_BARS = "▁▂▃▄▅▆▇█"
_MAX_FRONT_ROWS = 20
_FINALISTS_SHOWN = 5


def summary(folder: str | os.PathLike[str]) -> dict[str, object]:
    """What the run in `folder` produced so far, as plain containers.

    "effects", "trust", "hypervolume" and "verification" are None until the search has ended.
    """
    run = read_report(folder)
    shares = {str(budget): run.share_used(budget) for budget in run.budgets}
    return {
        "run": run.folder,
        "space": run.space_name,
        "space_choices": run.space_choices,
        "space_size": run.space_size,
        "space_fits": run.space_fits,
        "searcher": run.searcher,
        "seed": run.seed,
        "score": run.score,
        "maximize": run.maximize,
        "budgets": [str(budget) for budget in run.budgets],
        "front_cost": run.front_cost,
        "evals": run.evals,
        "counts": run.counts,
        "seconds": run.seconds,
        "best": run.best.to_dict() if run.best else None,
        "budget_used": {budget: share for budget, share in shares.items() if share is not None},
        "front": [evaluation.to_dict() for evaluation in run.front],
        "convergence": run.convergence,
        "errors": run.errors,
        "hypervolume": run.hypervolume,
        "effects": run.effects,
        "trust": run.trust,
        "verification": run.verification,
        "holdout": run.holdout,
        "uniform": run.uniform.to_dict() if run.uniform else None,
        "macs_seconds": run.macs_seconds,
        "command": run.command,
        "versions": run.versions,
    }


def report_run(folder: str | os.PathLike[str]) -> RenderableType:
    """The run in `folder` as tables for a terminal."""
    run = read_report(folder)
    with checked(folder):
        return Group(*_parts(run))


def _parts(run: RunReport) -> Iterator[RenderableType]:
    yield _overview(run)
    if run.best:
        yield _best(run, run.best)
        if run.uniform:
            yield _uniform(run, run.best, run.uniform)
        yield from (_front(run, run.best), _convergence(run))
    if run.holdout:
        yield _holdout(run.holdout)
    if run.verification:
        yield _verification(run.verification)
    yield from (Text(f"failed: {error}", style="red") for error in run.errors)
    if run.trust:
        yield _trust(run.trust)


def _overview(run: RunReport) -> Table:
    table = Table(title=escape(f"Search in {run.space_name}: {run.folder}"), show_header=False, title_justify="left")
    size, fits = run.space_size, run.space_fits
    rows = {
        "searcher, score": f"{run.searcher}, {run.score} ({'higher' if run.maximize else 'lower'} is better)",
        "budgets": ", ".join(map(str, run.budgets)) or "none",
        "subnets that fit": f"{fits:,} of {size:,} ({100 * fits / size:.3g} %)",
        "evaluations": _evaluations(run),
        "time in evaluations": f"{run.seconds:.1f} s",
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    if not run.best:
        why = "no candidate kept its budget when measured again" if run.verification else "no subnet was scored"
        table.add_row("best", f"none: {why}", style="yellow")
    return table


def _evaluations(run: RunReport) -> str:
    counts = run.counts
    ruled_out = f", {counts['ruled_out']} ruled out early" if counts["ruled_out"] else ""
    return (
        f"{counts['proposed']} of {run.evals}: {counts['ok']} ok, {counts['failed']} failed, "
        f"{counts['over_budget']} measured over budget{ruled_out}"
    )


def _best(run: RunReport, best: Evaluation) -> Table:
    table = Table(title="Best", show_header=False, title_justify="left")
    table.add_row("score", _number(best.score), style="bold")
    for name, value in best.costs.items():
        table.add_row(escape(name), _number(value) + (" (upper bound)" if name.startswith("latency_ms") else ""))
    for budget in run.budgets:
        if (share := run.share_used(budget)) is not None:
            table.add_row("budget used", f"{100 * share:.1f} % of {escape(str(budget))}")
    subnet = best.subnet
    table.add_row("subnet", f"{subnet.id}: embed dim {subnet.embed_dim}, depth {subnet.depth}")
    table.add_row("heads", " ".join(map(str, subnet.heads)))
    table.add_row("FFN ratios", " ".join(f"{ratio:g}" for ratio in subnet.ffn_ratios))
    if subnet.front_end:
        table.add_row("front end", f"{values_text(subnet.front_end)} channels")
    return table


def _uniform(run: RunReport, best: Evaluation, uniform: Evaluation) -> Table:
    """The best subnet whose layers are alike, beside the winner."""
    table = Table(title="Best uniform subnet", show_header=False, title_justify="left")
    table.add_row("score", f"{_number(uniform.score)} ({gain_of_freedom(best, uniform, run.maximize)})")
    for name, value in uniform.costs.items():
        table.add_row(escape(name), _number(value))
    table.add_row("subnet", escape(alike_text(uniform)))
    return table


def _holdout(holdout: Holdout) -> Table:
    table = Table(title=f"The last candidates on {escape(holdout['speech'])}", title_justify="left")
    for column in ("subnet", "score there", "score in the search"):
        table.add_column(column)
    for row in holdout["rows"][:_FINALISTS_SHOWN]:
        table.add_row(escape(str(row["id"])), _number(row["rescored"]), _number(row["score"]))
    return table


def _verification(verification: Verification) -> Table:
    """The measurements made after the search, the best candidate first."""
    candidates = verification["candidates"]
    table = Table(title="Measured again", title_justify="left")
    for column in ("subnet", "predicted", "bound", "measured", "at most", "of its budget"):
        table.add_column(column, justify="left" if column == "subnet" else "right")
    for candidate in candidates:
        for measured in candidate["budgets"].values():
            share = f"{100 * measured['measured_ms'] / measured['limit_ms']:.1f} %"
            verdict = "kept" if measured["keeps"] else "missed"
            table.add_row(candidate["id"], *measurements(measured), f"{share}: {verdict}")
    table.caption = escape(", ".join(candidates[0]["budgets"]))
    return table


def _front(run: RunReport, best: Evaluation) -> Table:
    """The front, or an even choice of its points that includes both ends."""
    shown = thinned(run.front, _MAX_FRONT_ROWS)
    title = f"Front: score against {run.front_cost}, {len(run.front)} subnets"
    title = escape(title) + (f" ({len(shown)} shown)" if len(shown) < len(run.front) else "")
    table = Table(title=title, title_justify="left")
    table.add_column("subnet")
    for name in ("score", *best.costs):
        table.add_column(escape(name), justify="right")
    for point in shown:
        costs = (_number(point.costs[name]) for name in best.costs)
        table.add_row(point.subnet.id, _number(point.score), *costs)
    return table


def _convergence(run: RunReport, width: int = 24) -> Text:
    """Best score so far against evaluations, as a line of bars."""
    steps, total = run.convergence, run.counts["proposed"]
    scores = [score for _, score in steps]
    first, last = scores[0], scores[-1]
    bars = ""
    for column in range(min(width, total)):
        end = (column + 1) * total / min(width, total)
        reached = [score for evaluations, score in steps if evaluations <= end]
        share = (reached[-1] - first) / ((last - first) or 1.0) if reached else 0.0
        bars += _BARS[round(share * (len(_BARS) - 1))] if reached else " "
    evaluation = steps[-1][0]
    return Text(f"Best so far: {_number(first)} {bars} {_number(last)}, found at evaluation {evaluation} of {total}")


def _trust(trust: Trust) -> Table:
    """How reliable the result is, in the sentences that the search wrote."""
    table = Table(title="Trust", show_header=False, title_justify="left")
    for sentence in (*trust.get("words", ()), trust.get("certificate")):
        if sentence:
            table.add_row(escape(str(sentence)))
    return table


def _number(value: float | None) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
