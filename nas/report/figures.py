"""The figures of a run as plain plotly dicts, without plotly.

A colour is a word of `PALETTES`, so that one figure can be painted for a light page, a dark page and a file.
Names from a run are untrusted, and plotly reads markup in text: every one passes `_plain` or `short`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nas import pareto
from nas.runs.ledger import Evaluation
from search_spaces import Space, Subnet, space_from_dict
from search_spaces.budget import budgets_on

__all__ = ["Figure", "PALETTES", "cost_title", "figures", "paint", "run_names", "short"]

Dict = dict[str, Any]

PALETTES: dict[str, dict[str, str]] = {
    "light": {
        "@ground": "#ffffff",
        "@card": "#f6f7f9",
        "@ink": "#1c2430",
        "@muted": "#5b6675",
        "@line": "#dde2ea",
        "@dot": "#8fa3bf",
        "@main": "#2066b4",
        "@on-main": "#ffffff",
        "@star": "#d9480f",
        "@better": "#2066b4",
        "@middle": "#f1f3f6",
        "@worse": "#b8520c",
    },
    "dark": {
        "@ground": "#14181f",
        "@card": "#1c222c",
        "@ink": "#e4e8ee",
        "@muted": "#9aa6b6",
        "@line": "#343d4a",
        "@dot": "#7d90ab",
        "@main": "#5aa2f0",
        "@on-main": "#0d1117",
        "@star": "#ff8a4c",
        "@better": "#5aa2f0",
        "@middle": "#262d38",
        "@worse": "#e08a45",
    },
}
_RUN_COLOURS = ("@main", "#e0801a", "#2f9e62", "#c2478f", "#8a6fd1", "#7f7f7f")
_COSTS = {
    "params": "parameters",
    "macs": "MACs",
    "memory_bytes": "memory (bytes)",
    "latency_ms": "latency (ms)",
}


class Figure(NamedTuple):
    """`title` and `caption` are plain text for the page around the plot; `plot` is plotly's data and layout."""

    title: str
    caption: str
    plot: Dict


def figures(
    found: Mapping[str, Any], evaluations: Sequence[Evaluation], others: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Figure]:
    """The figures that the run's `summary` and evaluations allow, by file name; `others` are summaries to compare."""
    made: dict[str, Figure] = {}
    if found["best"]:
        best = evaluations[found["best"]["index"]]
        for number, cost in enumerate(_cost_order(found, best), start=1):
            made[f"front-{cost if re.fullmatch(r'[A-Za-z0-9_]+', cost) else number}"] = _front(
                found, evaluations, best, cost
            )
    if any(run["convergence"] for run in (found, *others)):
        made["convergence"] = _convergence([found, *others])
    if found["best"]:
        made["subnet"] = _subnet(space_from_dict(found["space_choices"]), best.subnet)
    return {**made, **_effects(found), **_trust(found["trust"])}


def paint(plot: Any, palette: Mapping[str, str]) -> Any:
    """`plot` with the palette's colours for its words."""
    if isinstance(plot, dict):
        return {key: paint(value, palette) for key, value in plot.items()}
    if isinstance(plot, (list, tuple)):
        return [paint(value, palette) for value in plot]
    return palette.get(plot, plot) if isinstance(plot, str) else plot


def run_names(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each run, by searcher and seed; with its folder where that is not enough."""
    names = [f"{run['searcher']}, seed {run['seed']}" for run in runs]
    return [f"{name} ({Path(run['run']).name})" if names.count(name) > 1 else name for name, run in zip(names, runs)]


def cost_title(cost: str, found: Mapping[str, Any]) -> str:
    """A cost with its unit and convention, for people."""
    name, at, target = cost.partition("@")
    title, seconds = _COSTS.get(name, name) + (f", {target}" if at else ""), found["macs_seconds"]
    if cost == "macs" and seconds:
        return f"MACs for {seconds:g} s of audio"
    return title[:1].upper() + title[1:]


def short(value: float | None, digits: int = 3) -> str:
    """A cost as people say it: 2.48M, 196M, 20.5."""
    if value is None:
        return "unknown"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{max(digits, 4)}g}"


# -------------------------------------------------------------------- score against cost


def _cost_order(found: Mapping[str, Any], best: Evaluation) -> list[str]:
    """The costs, the front's own first."""
    return sorted(best.costs, key=lambda cost: cost != found["front_cost"])


def _front(found: Mapping[str, Any], evaluations: Sequence[Evaluation], best: Evaluation, cost: str) -> Figure:
    ok = [evaluation for evaluation in evaluations if evaluation.ok]
    front = pareto.front(ok, cost, found["maximize"])
    # From one point of the front to the next, the score that is on offer is the cheaper one's: across, then up.
    across = [e.costs[cost] for e in front] + [max(e.costs[cost] for e in ok)]
    data = [
        _dots("evaluated subnet", ok, cost, {"color": "@dot", "size": 7, "opacity": 0.75}),
        {
            "type": "scatter", "mode": "lines", "name": "front", "x": across,
            "y": [e.score for e in front] + [front[-1].score],
            "line": {"shape": "hv", "color": "@main", "width": 2}, "hoverinfo": "skip",
        },
        _dots("on the front", front, cost, {"color": "@main", "size": 8}) | {"showlegend": False},
        _dots("best", [best], cost, {"color": "@star", "size": 16, "symbol": "star"}),
    ]  # fmt: skip
    layout = _layout(
        410,
        top=30,
        xaxis=_axis(
            _brief(cost_title(cost, found)), tickformat="~s" if best.costs[cost] >= 1000 else "", **_around(across)
        ),
        yaxis=_axis(_score_title(found)),
        **_budget_lines(found["budgets"], cost),
    )
    caption = "Every dot is a subnet that was scored; the line is the best score among those that cost no more."
    return Figure(f"Score against {_COSTS.get(cost, cost)}", caption, {"data": data, "layout": layout})


def _around(values: Sequence[float]) -> Dict:
    """A range for an axis whose values are all the same, where plotly's ticks would differ in the sixth digit."""
    low, high = min(values), max(values)
    return {"range": [0.9 * low, 1.1 * high]} if low == high > 0 else {}


def _dots(name: str, evaluations: Sequence[Evaluation], cost: str, marker: Dict) -> Dict:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [evaluation.costs[cost] for evaluation in evaluations],
        "y": [evaluation.score for evaluation in evaluations],
        "text": [_told(evaluation) for evaluation in evaluations],
        "hoverinfo": "text",
        "marker": marker,
    }


def _told(evaluation: Evaluation) -> str:
    """An evaluation as the lines of a hover box."""
    subnet = evaluation.subnet
    lines = [
        f"<b>{subnet.id}</b>, evaluation {evaluation.index + 1}",
        f"score {evaluation.score:.5g}",
        *(f"{_plain(name)} {short(value, 4)}" for name, value in evaluation.costs.items()),
        f"embed dim {subnet.embed_dim}, depth {subnet.depth}",
        f"heads {' '.join(map(str, subnet.heads))}",
        f"FFN ratios {' '.join(f'{ratio:g}' for ratio in subnet.ffn_ratios)}",
    ]
    return "<br>".join(lines)


def _budget_lines(budgets: Sequence[str], cost: str) -> Dict:
    limits = [budget.limit for budget in budgets_on(cost, budgets)]
    font = {"color": "@worse", "size": 12}
    place = {"yref": "paper", "xanchor": "right", "yanchor": "bottom"}
    line = {"color": "@worse", "width": 1.5, "dash": "dash"}
    return {
        "shapes": [
            {"type": "line", "x0": limit, "x1": limit, "y0": 0, "y1": 1, "yref": "paper", "line": line}
            for limit in limits
        ],
        "annotations": [
            _note(f"budget {short(limit, 6)}", limit, 1, font, yshift=14 * row, **place)
            for row, limit in enumerate(limits)
        ],
    }


# -------------------------------------------------------------------- best so far


def _convergence(runs: Sequence[Mapping[str, Any]]) -> Figure:
    data = []
    for number, (name, run) in enumerate(zip(run_names(runs), runs)):
        steps = [*run["convergence"]]
        if not steps:
            continue
        told = [f"{_plain(name)}<br>best {score:.5g} at evaluation {done}" for done, score in steps]
        line = {"shape": "hv", "width": 2, "color": _RUN_COLOURS[number % len(_RUN_COLOURS)]}
        data.append({
            "type": "scatter", "mode": "lines+markers", "name": _plain(name), "line": line, "marker": {"size": 5},
            "x": [done for done, _ in steps] + [run["counts"]["proposed"]],
            "y": [score for _, score in steps] + [steps[-1][1]],
            "text": [*told, f"{_plain(name)}<br>best {steps[-1][1]:.5g} after {run['counts']['proposed']} evaluations"],
            "hoverinfo": "text",
        })  # fmt: skip
    layout = _layout(
        360 + 16 * max(0, len(data) - 3),
        xaxis=_axis("Evaluations", rangemode="tozero"),
        yaxis=_axis(f"Best {_score_title(runs[0])}"),
        showlegend=len(data) > 1,
    )
    caption = "The best score after so many evaluations: a line that still moves near its end may have more to gain."
    return Figure("Best score so far", caption, {"data": data, "layout": layout})


# -------------------------------------------------------------------- the chosen subnet


def _subnet(space: Space, subnet: Subnet) -> Figure:
    kept = space.layers_of(subnet)
    layers = range(space.network.num_layers)
    data, notes = [], []
    for axis, name, choices in (("y2", "heads", space.heads), ("y", "FFN ratio", space.ffn_ratios)):
        at = 0 if name == "heads" else 1
        largest = {layer: max(choices[layer]) for layer in kept}
        chosen = {layer: kept[layer][at] for layer in kept}
        data += [
            _bars("largest choice", largest, axis, {"color": "@line"}, [""] * len(kept)),
            _bars("chosen", chosen, axis, {"color": "@main"}, [f"{value:g}" for value in chosen.values()]),
        ]
        data[-1]["hovertext"] = data[-2]["hovertext"] = [
            f"layer {layer + 1}: {name} {chosen[layer]:g}, of at most {largest[layer]:g}" for layer in kept
        ]
        missing = [layer for layer in layers if layer not in kept]
        notes += [
            _note("not kept", layer + 1, 0.5, {"color": "@muted", "size": 12}, yref=f"{axis} domain", textangle=-90)
            for layer in missing
        ]
    for bars in data[2:]:
        bars["showlegend"] = False
    layout = _layout(
        420,
        barmode="overlay",
        annotations=notes,
        xaxis=_axis("Layer of the supernet", dtick=1, range=[0.4, len(layers) + 0.6], showgrid=False, anchor="y"),
        yaxis=_axis("FFN ratio", domain=[0, 0.46], fixedrange=True, nticks=5),
        yaxis2=_axis("Heads", domain=[0.54, 1], fixedrange=True, nticks=5),
    )
    caption = (
        f"Embed dim {subnet.embed_dim} (choices {_joined(space.embed_dims)}), depth {subnet.depth} "
        f"(choices {_joined(space.depths)}). Pale bars are the largest choice of each layer."
    )
    return Figure("Heads and FFN ratio of each layer", caption, {"data": data, "layout": layout})


def _bars(name: str, values: Mapping[int, float], axis: str, marker: Dict, text: Sequence[str]) -> Dict:
    return {
        "type": "bar",
        "name": name,
        "x": [layer + 1 for layer in values],
        "y": list(values.values()),
        "width": 0.76,
        "yaxis": axis,
        "marker": marker,
        "text": list(text),
        "textposition": "inside",
        "insidetextanchor": "end",
        "textangle": 0,
        "insidetextfont": {"color": "@on-main", "size": 11},
        "constraintext": "none",
        "hoverinfo": "text",
    }


# -------------------------------------------------------------------- what choices are worth


def _effects(found: Mapping[str, Any]) -> dict[str, Figure]:
    effects = found["effects"]
    if not effects:
        return {}
    best = Subnet.from_dict(found["best"]["subnet"]) if found["best"] else None
    kept = space_from_dict(found["space_choices"]).layers_of(best) if best else {}
    made = {"effects-layers": _layer_effects(effects["layers"], kept, found["maximize"])}
    for key, name, title, chosen in (
        ("embed_dims", "embed_dim", "embed dim", best.embed_dim if best else None),
        ("depths", "depth", "depth", best.depth if best else None),
    ):
        if effects.get(key):
            made[f"effects-{name}"] = _choice_effects(effects[key], name, title, chosen, found["maximize"])
    return made


def _layer_effects(layers: Sequence[Dict], kept: Mapping[int, tuple[int, float]], maximize: bool) -> Figure:
    pairs = sorted({_pair(choice) for layer in layers for choice in layer["choices"]})
    rows = [_pair_name(pair) for pair in pairs]
    columns = [int(layer["layer"]) for layer in layers]
    by_layer = [{_pair(choice): choice for choice in layer["choices"]} for layer in layers]
    cells = [[choices.get(pair) for choices in by_layer] for pair in pairs]
    stars = [(layer + 1, _pair_name(choice)) for layer, choice in kept.items() if choice in pairs]
    data = [
        {
            "type": "heatmap", "x": columns, "y": rows, "xgap": 2, "ygap": 2, "zmid": 0, "hoverinfo": "text",
            "z": [[cell and cell["effect"] for cell in row] for row in cells],
            "text": [[_cell_told(column, cell) for column, cell in zip(columns, row)] for row in cells],
            "texttemplate": "",
            "colorscale": _scale(maximize),
            "colorbar": {  # without a title: plotly 3.7 draws it over the bar, and at the top drops the figure's
                "orientation": "h", "thickness": 12, "len": 1, "yref": "container", "y": 0, "yanchor": "bottom",
                "outlinewidth": 0, "nticks": 5,
            },
        },
        {
            "type": "scatter", "mode": "markers", "x": [x for x, _ in stars], "y": [y for _, y in stars],
            "marker": {"symbol": "star", "size": 10, "color": "@star", "line": {"color": "@ground", "width": 1}},
            "hoverinfo": "skip",
        },
    ]  # fmt: skip
    layout = _layout(
        430,
        xaxis=_axis("Layer of the supernet", dtick=1, showgrid=False),
        yaxis=_axis("Heads / FFN ratio", type="category", showgrid=False),
        showlegend=False,
    )
    caption = (
        "How far each choice moves the score from the mean, by the score model. Blue is better, orange worse; stars "
        "are the chosen subnet's."
    )
    return Figure("Effect of each layer's choices on the score", caption, {"data": data, "layout": layout})


def _pair(choice: Mapping[str, Any]) -> tuple[int, float]:
    return choice["heads"], choice["ffn_ratio"]


def _pair_name(pair: tuple[int, float]) -> str:
    return f"{pair[0]:g} / {pair[1]:g}"


def _cell_told(layer: int, cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    return f"layer {layer:g}: {cell['heads']:g} heads, FFN ratio {cell['ffn_ratio']:g}<br>{_effect_told(cell)}"


def _effect_told(effect: Mapping[str, Any]) -> str:
    if effect["effect"] is None:
        return "effect unknown"
    spread = "" if effect.get("std") is None else f" ± {effect['std']:.2g}"
    seen = "" if effect.get("count") is None else f"<br>seen in {effect['count']:,} evaluations"
    return f"effect {effect['effect']:+.3g}{spread}{seen}"


def _scale(maximize: bool) -> list[list[Any]]:
    ends = ("@worse", "@better") if maximize else ("@better", "@worse")
    return [[0, ends[0]], [0.5, "@middle"], [1, ends[1]]]


def _choice_effects(rows: Sequence[Dict], key: str, title: str, chosen: int | None, maximize: bool) -> Figure:
    better = [((row["effect"] or 0) > 0) is maximize for row in rows]
    data = [{
        "type": "bar",
        "x": [f"{row[key]:g}" + (" ★" if row[key] == chosen else "") for row in rows],
        "y": [row["effect"] for row in rows],
        "error_y": {"type": "data", "array": [row.get("std") for row in rows], "color": "@ink", "thickness": 1.5},
        "marker": {"color": ["@better" if good else "@worse" for good in better]},
        "text": [f"{title} {row[key]:g}<br>{_effect_told(row)}" for row in rows],
        "textposition": "none",
        "hoverinfo": "text",
    }]  # fmt: skip
    layout = _layout(
        300,
        xaxis=_axis(title.capitalize(), type="category", showgrid=False),
        yaxis=_axis("Effect on the score", zeroline=True, zerolinecolor="@muted"),
        bargap=0.45,
        showlegend=False,
    )
    caption = "Whiskers: one standard deviation. Blue is better than the mean; ★ is the chosen subnet's."
    return Figure(f"Effect of the {title} on the score", caption, {"data": data, "layout": layout})


# -------------------------------------------------------------------- trust


def _trust(trust: Mapping[str, Any] | None) -> dict[str, Figure]:
    """Kendall's tau of everything that predicts the order of subnets, with its interval."""
    named = {} if not trust else {
        "score model": trust.get("model"),
        **{f"{_plain(cost)} alone": tau for cost, tau in (trust.get("by_cost") or {}).items()},
        "scored again": trust.get("rescored"),
    }  # fmt: skip
    rows = {name: tau for name, tau in named.items() if tau and tau.get("tau") is not None}
    if not rows:
        return {}
    taus = list(rows.values())
    lows, highs = [_end(tau, "low") for tau in taus], [_end(tau, "high") for tau in taus]
    data = [{
        "type": "bar", "orientation": "h", "x": [tau["tau"] for tau in taus],
        "y": [f"{name}<br><b>{tau['tau']:.2f}</b> ({low:.2f} to {high:.2f})"
              for (name, tau), low, high in zip(rows.items(), lows, highs)],
        "error_x": {
            "type": "data", "symmetric": False, "color": "@ink", "thickness": 1.5,
            "array": [high - tau["tau"] for tau, high in zip(taus, highs)],
            "arrayminus": [tau["tau"] - low for tau, low in zip(taus, lows)],
        },
        "marker": {"color": ["@main" if name in ("score model", "scored again") else "@dot" for name in rows]},
        "hoverinfo": "skip",
    }]  # fmt: skip
    layout = _layout(
        120 + 56 * len(rows),
        xaxis=_axis("Kendall's τ with the scores<br>(1: same order; 0: none)", range=[min(0, *lows), 1.02], dtick=0.25),
        yaxis=_axis("", autorange="reversed", showgrid=False),
        bargap=0.45,
        showlegend=False,
    )
    caption = "How well the order of subnets is known beforehand; whiskers are the interval of each value."
    return {"trust": Figure("Agreement on which subnet is better", caption, {"data": data, "layout": layout})}


def _end(tau: Mapping[str, Any], key: str) -> float:
    """An end of the interval, which is the value itself where there is none."""
    return float(tau["tau"] if tau.get(key) is None else tau[key])


# -------------------------------------------------------------------- shared


def _layout(height: int, top: int = 10, **more: Any) -> Dict:
    return {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": top, "b": 70 if more.get("showlegend", True) else 8},
        "paper_bgcolor": "@ground",
        "plot_bgcolor": "@ground",
        "font": {"color": "@ink", "size": 13, "family": "system-ui, sans-serif"},
        "hoverlabel": {"align": "left", "bgcolor": "@card", "bordercolor": "@line", "font": {"color": "@ink"}},
        "hovermode": "closest",
        # Below the plot, measured from the edge of the figure: never on the data, however narrow the page.
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        "showlegend": True,
        **more,
    }


def _axis(title: str, **more: Any) -> Dict:
    return {
        "title": {"text": title, "standoff": 10, "font": {"size": 13}},
        "gridcolor": "@line",
        "linecolor": "@line",
        "zeroline": False,
        "automargin": True,
        **more,
    }


def _note(text: str, x: float, y: float, font: Dict, **more: Any) -> Dict:
    return {"text": text, "x": x, "y": y, "font": font, "showarrow": False, **more}


def _score_title(found: Mapping[str, Any]) -> str:
    return f"score: {_brief(found['score'])}<br>({'higher' if found['maximize'] else 'lower'} is better)"


def _plain(text: object) -> str:
    """`text` without markup for plotly, which knows these three entities only."""
    return html.escape(str(text), quote=False)


def _brief(text: str, most: int = 32) -> str:
    """`text` for the title of an axis, which is cut off where it is longer than the axis."""
    return _plain(text if len(text) <= most else f"{text[: most - 1]}…")


def _joined(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
