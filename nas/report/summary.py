"""What a run found, rebuilt from its settings and ledger: as a dict, or as tables for a terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nas.objective import Objective, best_and_front
from nas.runs.folder import read_run
from nas.runs.ledger import Evaluation
from search_spaces import RunError
from search_spaces.budget import Budget

__all__ = ["report_run", "summary"]

_BARS = "▁▂▃▄▅▆▇█"


def summary(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What the run in `folder` found so far, as plain containers.

    "effects", "trust" and "hypervolume" are what the search left in run.json, None where it left nothing.
    """
    settings, evaluations = read_run(folder)
    objective = Objective(settings["maximize"], *settings["objectives"][1:])
    best, front = best_and_front(evaluations, objective, settings["front_cost"])
    verification = _left_by_search(settings, "verification")
    if verification:
        best = next((e for e in evaluations if e.index == verification.get("winner")), None)
    return {
        "run": str(folder),
        "space": settings["space"]["name"],
        "space_choices": settings["space"],
        "space_size": settings["space_size"],
        "space_fits": settings["space_fits"],
        "searcher": settings["searcher"],
        "seed": settings["seed"],
        "score": settings["score"]["name"],
        "maximize": settings["maximize"],
        "budgets": settings["budgets"],
        "front_cost": settings["front_cost"],
        "evals": settings["evals"],
        "counts": _counts(evaluations),
        "seconds": round(sum(evaluation.seconds for evaluation in evaluations), 3),
        "best": best.to_dict() if best else None,
        "budget_used": _used(best, settings["budgets"], settings["costs"]),
        "front": [evaluation.to_dict() for evaluation in front],
        "convergence": _best_so_far(evaluations, objective),
        "errors": sorted({evaluation.error for evaluation in evaluations if evaluation.error}),
        **{name: _left_by_search(settings, name) for name in ("hypervolume", "effects", "trust")},
        "verification": verification,
        "macs_seconds": _given(settings).get("macs_seconds"),
        "command": _given(settings).get("command", settings.get("command")),
        "versions": settings.get("versions", {}),
    }


def report_run(folder: str | os.PathLike[str]) -> RenderableType:
    """The run in `folder` for a terminal."""
    found = summary(folder)
    parts: list[RenderableType] = [_overview(found)]
    if found["best"]:
        parts += [_best(found), _front(found), _convergence(found)]
    if found["verification"]:
        parts.append(_verification(found["verification"]))
    parts += [Text(f"failed: {error}", style="red") for error in found["errors"]]
    if found["trust"]:
        parts.append(_trust(found["trust"]))
    return Group(*parts)


def _left_by_search(settings: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = settings.get(name)
    if value is not None and not isinstance(value, dict):
        raise RunError(f"the {name} in run.json must be an object; got {value!r}")
    return value


def _given(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the caller of the search left in run.json: the command line leaves its options and itself."""
    given = settings.get("settings")
    return given if isinstance(given, dict) else {}


def _counts(evaluations: Sequence[Evaluation]) -> dict[str, int]:
    statuses = [evaluation.status for evaluation in evaluations]
    return {
        "proposed": len(statuses),
        "ok": statuses.count("ok"),
        "failed": statuses.count("failed"),
        "over_budget": statuses.count("over budget"),
        "ruled_out": statuses.count("ruled out"),
    }


def _used(best: Evaluation | None, budgets: Sequence[str], costs: Sequence[str]) -> dict[str, float]:
    """The share of each budget that the best subnet takes."""
    limits = [Budget.parse(text, costs) for text in budgets] if best else []
    return {str(limit): best.costs[limit.cost] / limit.limit for limit in limits if best and limit.limit}


def _best_so_far(evaluations: Sequence[Evaluation], objective: Objective) -> list[tuple[int, float]]:
    """(evaluations, best score) whenever the best score improved."""
    steps: list[tuple[int, float]] = []
    best: Evaluation | None = None
    for evaluation in evaluations:
        if evaluation.ok and (best is None or objective.worth(evaluation) > objective.worth(best)):
            best = evaluation
            assert best.score is not None
            steps.append((evaluation.index + 1, best.score))
    return steps


def _overview(found: Mapping[str, Any]) -> Table:
    counts, size, fits = found["counts"], found["space_size"], found["space_fits"]
    table = Table(title=escape(f"Search in {found['space']}: {found['run']}"), show_header=False, title_justify="left")
    better = "higher" if found["maximize"] else "lower"
    rows = {
        "searcher, score": f"{found['searcher']}, {found['score']} ({better} is better)",
        "budgets": ", ".join(found["budgets"]) or "none",
        "subnets that fit": f"{fits:,} of {size:,} ({100 * fits / size:.3g} %)",
        "evaluations": f"{counts['proposed']} of {found['evals']}: {counts['ok']} ok, {counts['failed']} failed, "
        f"{counts['over_budget']} measured over budget"
        + (f", {counts['ruled_out']} ruled out early" if counts["ruled_out"] else ""),
        "time in evaluations": f"{found['seconds']:.1f} s",
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    if not found["best"]:
        why = (
            "no subnet was scored" if not found["verification"] else "no candidate kept its budget when measured again"
        )
        table.add_row("best", f"none: {why}", style="yellow")
    return table


def _best(found: Mapping[str, Any]) -> Table:
    best = found["best"]
    table = Table(title="Best", show_header=False, title_justify="left")
    table.add_row("score", _number(best["score"]), style="bold")
    for name, value in best["costs"].items():
        table.add_row(escape(name), _number(value))
    for budget, share in found["budget_used"].items():
        table.add_row("budget used", f"{100 * share:.1f} % of {escape(budget)}")
    subnet = best["subnet"]
    table.add_row("subnet", f"{best['id']}: embed dim {subnet['embed_dim']}, depth {len(subnet['heads'])}")
    table.add_row("heads", " ".join(map(str, subnet["heads"])))
    table.add_row("FFN ratios", " ".join(f"{ratio:g}" for ratio in subnet["ffn_ratios"]))
    return table


def _verification(verification: Mapping[str, Any]) -> Table:
    """What was measured again, candidate by candidate, the best first."""
    table = Table(title="Measured again", title_justify="left")
    for column in ("subnet", "predicted", "bound", "measured", "at most", "of its budget"):
        table.add_column(column, justify="left" if column == "subnet" else "right")
    for candidate in verification["candidates"]:
        for m in candidate["budgets"].values():
            numbers = (f"{m[key]:.4g}" for key in ("predicted_ms", "bound_ms", "measured_ms", "measured_at_most_ms"))
            share = f"{100 * m['measured_ms'] / m['limit_ms']:.1f} %: {'kept' if m['keeps'] else 'missed'}"
            table.add_row(candidate["id"], *numbers, share)
    table.caption = escape(", ".join(verification["candidates"][0]["budgets"]))
    return table


def _front(found: Mapping[str, Any], most: int = 20) -> Table:
    """The front, thinned to `most` rows with both ends kept."""
    front, costs = found["front"], list(found["best"]["costs"])
    title = f"Front: score against {found['front_cost']}, {len(front)} subnets"
    shown = [front[round(i * (len(front) - 1) / (most - 1))] for i in range(most)] if len(front) > most else front
    table = Table(title=escape(title) + (f" ({most} shown)" if shown is not front else ""), title_justify="left")
    table.add_column("subnet")
    for name in ("score", *costs):
        table.add_column(escape(name), justify="right")
    for point in shown:
        table.add_row(point["id"], _number(point["score"]), *(_number(point["costs"][name]) for name in costs))
    return table


def _convergence(found: Mapping[str, Any], width: int = 24) -> Text:
    """Best score so far against evaluations, as a line of bars."""
    steps, total = found["convergence"], found["counts"]["proposed"]
    scores = [score for _, score in steps]
    first, last = scores[0], scores[-1]
    bars = ""
    for column in range(min(width, total)):
        at = (column + 1) * total / min(width, total)
        reached = [score for done, score in steps if done <= at]
        share = (reached[-1] - first) / ((last - first) or 1.0) if reached else 0.0
        bars += _BARS[round(share * (len(_BARS) - 1))] if reached else " "
    found_at = steps[-1][0]
    return Text(f"Best so far: {_number(first)} {bars} {_number(last)}, found at evaluation {found_at} of {total}")


def _trust(trust: Mapping[str, Any]) -> Table:
    """How far to believe the result, in the words that the search left."""
    table = Table(title="Trust", show_header=False, title_justify="left")
    for words in (*trust.get("words", ()), trust.get("certificate")):
        if words:
            table.add_row(escape(str(words)))
    return table


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
