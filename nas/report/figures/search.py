"""How the search went: score against each cost, and the best score so far."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nas import pareto
from nas.report.figures.base import Figure, Plotly, axis, layout, note, plain, score_title, wrapped
from nas.report.formatting import cost_title, run_names, sentence, short, values_text
from nas.report.run import RunReport
from nas.runs.ledger import Evaluation
from search_spaces.budget import Budget

__all__ = ["RUN_COLOURS", "convergence_figure", "front_figure", "front_figures"]

MAX_DOTS = 4_000
RUN_COLOURS = ("@main", "#c96f14", "#2a9158", "#c2478f", "#8a6fd1", "#7f7f7f")  # 3:1 on the light and dark page
_RUN_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # five: six colours with them make thirty styles


def front_figures(run: RunReport, best: Evaluation) -> dict[str, Figure]:
    """Score against each cost, by file name; the cost of the run's front comes first."""
    costs = sorted(best.costs, key=lambda cost: cost != run.front_cost)
    return {
        f"front-{cost if re.fullmatch(r'[A-Za-z0-9_]+', cost) else number}": front_figure(
            run.evaluations,
            cost,
            score=run.score,
            maximize=run.maximize,
            best=best,
            uniform=run.uniform,
            largest=run.largest,
            budgets=run.budgets_on(cost),
            macs_seconds=run.macs_seconds,
        )
        for number, cost in enumerate(costs, start=1)
    }


def front_figure(
    evaluations: Sequence[Evaluation],
    cost: str,
    *,
    score: str,
    maximize: bool,
    best: Evaluation | None = None,
    uniform: Evaluation | None = None,
    largest: Evaluation | None = None,
    budgets: Sequence[Budget] = (),
    macs_seconds: float | None = None,
) -> Figure:
    """Score against `cost`; at least one of the evaluations must be ok.

    `best`, the best `uniform` subnet and the `largest` of the space are marked; the largest need not be one of the
    evaluations. `budgets` are those on `cost`.
    """
    ok = [evaluation for evaluation in evaluations if evaluation.ok]
    front, costs = pareto.front(ok, cost, maximize), [evaluation.costs[cost] for evaluation in ok]
    named = [*([_largest(largest, cost, costs)] if largest else []), *_named(best, uniform, cost)]
    data = [
        _dots("evaluated subnet", _thinned(ok), cost, {"color": "@dot", "size": 7, "opacity": 0.75}),
        _front_line(front, cost, max(costs)),
        _dots("on the front", front, cost, {"color": "@main", "size": 8}) | {"showlegend": False},
        *named,
    ]
    ticks = "~s" if max(costs) >= 1000 else ""
    scores = [e.score for e in (*ok, *([largest] if largest else [])) if e.score is not None]
    plot_layout = layout(
        330,
        axis(wrapped(cost_title(cost, macs_seconds)), tickformat=ticks, **_range_around(costs)),
        _front_alt(len(ok), front, cost, named),
        top=30,
        legend=len(data) - 1,
        yaxis=axis(score_title(score, maximize), **_range_around(scores)),
        **_budget_lines(budgets),
    )
    caption = "Every dot is a subnet that was scored; the line is the best score among those that cost no more."
    if len(ok) > MAX_DOTS:
        caption += f" {MAX_DOTS:,} evenly chosen of {len(ok):,} are shown; the front is that of all."
    title = f"Score against {cost_title(cost, macs_seconds, start=False)}"
    return Figure(title, caption, {"data": data, "layout": plot_layout})


def _front_line(front: Sequence[Evaluation], cost: str, end: float) -> Plotly:
    """Between two points of the front the best available score is the cheaper one's: across, then up."""
    return {
        "type": "scatter", "mode": "lines", "name": "front",
        "x": [*(e.costs[cost] for e in front), end], "y": [*(e.score for e in front), front[-1].score],
        "line": {"shape": "hv", "color": "@main", "width": 2}, "hoverinfo": "skip",
    }  # fmt: skip


def _named(best: Evaluation | None, uniform: Evaluation | None, cost: str) -> list[Plotly]:
    """Markers of the best subnet and of the best uniform one, or one marker if they are the same."""
    star = {"color": "@star", "size": 16, "symbol": "star"}
    diamond = {"color": "@uniform", "size": 12, "symbol": "diamond"}
    if best and uniform and best.subnet == uniform.subnet:
        return [_dots(_in_words("best, uniform", best, cost), [best], cost, star)]
    return [
        _dots(_in_words(name, evaluation, cost), [evaluation], cost, marker)
        for name, evaluation, marker in (("best uniform", uniform, diamond), ("best", best, star))
        if evaluation
    ]


def _largest(largest: Evaluation, cost: str, costs: Sequence[float]) -> Plotly:
    """A line at the score of the largest subnet, which ends in a marker if its cost is among `costs`.

    It costs far more than a budget allows, and an axis that reaches it would leave little room for the search.
    """
    low, high, own = min(costs), max(costs), largest.costs[cost]
    name = _in_words("largest subnet", largest, cost)
    return {
        "type": "scatter", "mode": "lines+markers", "name": name, "x": [low, min(own, high)],
        "y": [largest.score, largest.score], "text": [name, name], "hoverinfo": "text",
        "line": {"color": "@ink", "width": 1.5, "dash": "dot"},
        "marker": {"color": "@ink", "symbol": "square", "size": [0, 9 if own <= high else 0]},
    }  # fmt: skip


def _in_words(name: str, evaluation: Evaluation, cost: str) -> str:
    return f"{name}: {evaluation.score:.4g} at {short(evaluation.costs[cost])}"


def _front_alt(scored: int, front: Sequence[Evaluation], cost: str, named: Sequence[Plotly]) -> str:
    first, last = (f"score {e.score:.4g} at {short(e.costs[cost])}" for e in (front[0], front[-1]))
    marked = "".join(f" {sentence(trace['name'])}." for trace in named)
    return f"{scored:,} subnets. The front has {len(front):,}, from {first} to {last}.{marked}"


def _thinned(evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
    """At most `MAX_DOTS`, evenly spaced: more cannot be told apart, and make a page of many megabytes."""
    if len(evaluations) <= MAX_DOTS:
        return evaluations
    return [evaluations[i * len(evaluations) // MAX_DOTS] for i in range(MAX_DOTS)]


def _range_around(values: Sequence[float]) -> Plotly:
    """A range for an axis if all its values are equal: plotly's own would be 1 to either side."""
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
        *([f"front end {values_text(subnet.front_end)}"] if subnet.front_end else []),
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
    scored = [(name, run) for name, run in zip(run_names(runs), runs) if run.convergence]
    scores = [score for _, run in scored for _, score in run.convergence]
    data = [_convergence_line(run, name, number) for number, (name, run) in enumerate(scored)]
    plot_layout = layout(
        330,
        axis("Evaluations", rangemode="tozero"),
        " ".join(_convergence_alt(name, run) for name, run in scored),
        legend=sum(1 + line["name"].count("<br>") for line in data) if len(data) > 1 else 0,
        yaxis=axis(score_title(runs[0].score, runs[0].maximize, "Best score"), **_range_around(scores)),
    )
    caption = "The best score after so many evaluations: a line that still moves near its end may have more to gain."
    return Figure("Best score so far", caption, {"data": data, "layout": plot_layout})


def _convergence_line(run: RunReport, name: str, number: int) -> Plotly:
    steps, total = run.convergence, run.counts["proposed"]
    final = steps[-1][1]
    title = plain(name)
    texts = [f"{title}<br>best {score:.5g} at evaluation {evaluations}" for evaluations, score in steps]
    colour, dash = RUN_COLOURS[number % len(RUN_COLOURS)], _RUN_DASHES[number % len(_RUN_DASHES)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": wrapped(name),
        "line": {"shape": "hv", "width": 2, "color": colour, "dash": dash},
        "marker": {"size": 5},
        "x": [evaluations for evaluations, _ in steps] + [total],
        "y": [score for _, score in steps] + [final],
        "text": [*texts, f"{title}<br>best {final:.5g} after {total} evaluations"],
        "hoverinfo": "text",
    }


def _convergence_alt(name: str, run: RunReport) -> str:
    (first, start), (last, end) = run.convergence[0], run.convergence[-1]
    return (
        f"{name}: from {start:.5g} at evaluation {first:,} to {end:.5g} at evaluation {last:,} of "
        f"{run.counts['proposed']:,}."
    )
