"""How the search went: score against each cost, and the best score so far."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nas import pareto
from nas.report.figures.base import Figure, Plotly, axis, brief, layout, note, plain, score_title
from nas.report.formatting import cost_name, cost_title, run_names, short
from nas.report.run import RunReport
from nas.runs.ledger import Evaluation
from search_spaces.budget import Budget

__all__ = ["convergence_figure", "front_figures"]

MAX_DOTS = 4_000
_RUN_COLOURS = ("@main", "#e0801a", "#2f9e62", "#c2478f", "#8a6fd1", "#7f7f7f")


def front_figures(run: RunReport, best: Evaluation) -> dict[str, Figure]:
    """Score against each cost, by file name; the cost of the run's front comes first."""
    costs = sorted(best.costs, key=lambda cost: cost != run.front_cost)
    return {
        f"front-{cost if re.fullmatch(r'[A-Za-z0-9_]+', cost) else number}": _front(run, best, cost)
        for number, cost in enumerate(costs, start=1)
    }


def _front(run: RunReport, best: Evaluation, cost: str) -> Figure:
    ok = [evaluation for evaluation in run.evaluations if evaluation.ok]
    front = pareto.front(ok, cost, run.maximize)
    # Between two points of the front the best available score is the cheaper one's: draw across, then up.
    costs = [e.costs[cost] for e in front] + [max(e.costs[cost] for e in ok)]
    line = {
        "type": "scatter", "mode": "lines", "name": "front", "x": costs,
        "y": [e.score for e in front] + [front[-1].score],
        "line": {"shape": "hv", "color": "@main", "width": 2}, "hoverinfo": "skip",
    }  # fmt: skip
    data = [
        _dots("evaluated subnet", _thinned(ok), cost, {"color": "@dot", "size": 7, "opacity": 0.75}),
        line,
        _dots("on the front", front, cost, {"color": "@main", "size": 8}) | {"showlegend": False},
        _dots("best", [best], cost, {"color": "@star", "size": 16, "symbol": "star"}),
    ]
    ticks = "~s" if best.costs[cost] >= 1000 else ""
    plot_layout = layout(
        410,
        top=30,
        xaxis=axis(brief(cost_title(cost, run.macs_seconds)), tickformat=ticks, **_range_around(costs)),
        yaxis=axis(score_title(run)),
        **_budget_lines(run.budgets_on(cost)),
    )
    caption = "Every dot is a subnet that was scored; the line is the best score among those that cost no more."
    if len(ok) > MAX_DOTS:
        caption += f" {MAX_DOTS:,} evenly chosen of {len(ok):,} are shown; the front is that of all."
    return Figure(f"Score against {cost_name(cost)}", caption, {"data": data, "layout": plot_layout})


def _thinned(evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
    """At most `MAX_DOTS`, evenly spaced: more cannot be told apart, and make a page of many megabytes."""
    if len(evaluations) <= MAX_DOTS:
        return evaluations
    return [evaluations[i * len(evaluations) // MAX_DOTS] for i in range(MAX_DOTS)]


def _range_around(values: Sequence[float]) -> Plotly:
    """A range for an axis if all its values are equal: plotly's own ticks would differ in the sixth digit."""
    low, high = min(values), max(values)
    return {"range": [0.9 * low, 1.1 * high]} if low == high > 0 else {}


def _dots(name: str, evaluations: Sequence[Evaluation], cost: str, marker: Plotly) -> Plotly:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [evaluation.costs[cost] for evaluation in evaluations],
        "y": [evaluation.score for evaluation in evaluations],
        "text": [_hover_text(evaluation) for evaluation in evaluations],
        "hoverinfo": "text",
        "marker": marker,
    }


def _hover_text(evaluation: Evaluation) -> str:
    """The lines of an evaluation's hover box."""
    subnet = evaluation.subnet
    lines = [
        f"<b>{subnet.id}</b>, evaluation {evaluation.index + 1}",
        f"score {evaluation.score:.5g}",
        *(f"{plain(name)} {short(value, 4)}" for name, value in evaluation.costs.items()),
        f"embed dim {subnet.embed_dim}, depth {subnet.depth}",
        f"heads {' '.join(map(str, subnet.heads))}",
        f"FFN ratios {' '.join(f'{ratio:g}' for ratio in subnet.ffn_ratios)}",
    ]
    return "<br>".join(lines)


def _budget_lines(budgets: Sequence[Budget]) -> Plotly:
    """A vertical line for each budget, with its limit beside it."""
    limits = [budget.limit for budget in budgets]
    font = {"color": "@worse", "size": 12}
    place = {"yref": "paper", "xanchor": "right", "yanchor": "bottom"}
    line = {"color": "@worse", "width": 1.5, "dash": "dash"}
    return {
        "shapes": [
            {"type": "line", "x0": limit, "x1": limit, "y0": 0, "y1": 1, "yref": "paper", "line": line}
            for limit in limits
        ],
        "annotations": [
            note(f"budget {short(limit, 6)}", limit, 1, font, yshift=14 * row, **place)
            for row, limit in enumerate(limits)
        ],
    }


def convergence_figure(runs: Sequence[RunReport]) -> Figure:
    """The best score so far of each run against evaluations; runs without a score are left out."""
    data = [
        _convergence_line(run, plain(name), _RUN_COLOURS[number % len(_RUN_COLOURS)])
        for number, (name, run) in enumerate(zip(run_names(runs), runs))
        if run.convergence
    ]
    plot_layout = layout(
        360 + 16 * max(0, len(data) - 3),
        xaxis=axis("Evaluations", rangemode="tozero"),
        yaxis=axis(f"Best {score_title(runs[0])}"),
        showlegend=len(data) > 1,
    )
    caption = "The best score after so many evaluations: a line that still moves near its end may have more to gain."
    return Figure("Best score so far", caption, {"data": data, "layout": plot_layout})


def _convergence_line(run: RunReport, name: str, colour: str) -> Plotly:
    steps, total = run.convergence, run.counts["proposed"]
    final = steps[-1][1]
    texts = [f"{name}<br>best {score:.5g} at evaluation {evaluations}" for evaluations, score in steps]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "line": {"shape": "hv", "width": 2, "color": colour},
        "marker": {"size": 5},
        "x": [evaluations for evaluations, _ in steps] + [total],
        "y": [score for _, score in steps] + [final],
        "text": [*texts, f"{name}<br>best {final:.5g} after {total} evaluations"],
        "hoverinfo": "text",
    }
