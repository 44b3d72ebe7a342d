"""The chosen subnet layer by layer, and the effect of each choice on the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.report.figures.base import Figure, Plotly, axis, layout, listed, note
from nas.report.formatting import sentence, values_text
from nas.report.run import RunReport
from nas.report.run_json import ChoiceEffect, LayerEffects
from search_spaces import Space, Subnet

__all__ = ["effect_figures", "subnet_figure"]


def subnet_figure(space: Space, subnet: Subnet) -> Figure:
    """Heads and FFN ratio of each layer, in front of the largest choice."""
    kept = space.layers_of(subnet)
    num_layers = space.network.num_layers
    heads = _choice_bars("heads", "y2", {i: (kept[i][0], max(space.heads[i])) for i in kept})
    ratios = _choice_bars("FFN ratio", "y", {i: (kept[i][1], max(space.ffn_ratios[i])) for i in kept})
    notes = [
        note("not kept", layer + 1, 0.5, {"color": "@muted", "size": 12}, yref=f"{each} domain", textangle=-90)
        for each in ("y2", "y")
        for layer in range(num_layers)
        if layer not in kept
    ]
    layers = (f"layer {i + 1}: {each[0]:g} and {each[1]:g}" for i, each in sorted(kept.items()))
    plot_layout = layout(
        350,
        axis("Layer of the supernet", dtick=1, range=[0.4, num_layers + 0.6], showgrid=False, anchor="y"),
        f"Heads and FFN ratio of each kept layer. {sentence('; '.join(layers))}.",
        legend=2,
        barmode="overlay",
        annotations=notes,
        yaxis=axis("FFN ratio", domain=[0, 0.46], fixedrange=True, nticks=5),
        yaxis2=axis("Heads", domain=[0.54, 1], fixedrange=True, nticks=5),
    )
    caption = (
        f"Embed dim {subnet.embed_dim} (choices {listed(space.embed_dims)}), depth {subnet.depth} "
        f"(choices {listed(space.depths)}){_front_end(space, subnet)}. Pale bars are the largest choice of each layer."
    )
    data = [*heads, *({**bars, "showlegend": False} for bars in ratios)]
    return Figure("Heads and FFN ratio of each layer", caption, {"data": data, "layout": plot_layout})


def _front_end(space: Space, subnet: Subnet) -> str:
    if not space.elastic_front_end:
        return ""
    whole = tuple(layer[0] for layer in space.network.conv_layers)
    choices = (values_text(each or whole) for each in space.front_ends)
    return f", front end {values_text(subnet.front_end or whole)} (choices {', '.join(choices)})"


def _choice_bars(name: str, y_axis: str, layers: Mapping[int, tuple[float, float]]) -> list[Plotly]:
    """Bars of the largest choice and of the chosen one; `layers` maps a layer to (chosen, largest)."""
    hover = [
        f"layer {layer + 1}: {name} {chosen:g}, of at most {largest:g}" for layer, (chosen, largest) in layers.items()
    ]
    common = {
        "type": "bar",
        "x": [layer + 1 for layer in layers],
        "width": 0.76,
        "yaxis": y_axis,
        "textposition": "inside",
        "insidetextanchor": "end",
        "textangle": 0,
        "insidetextfont": {"color": "@on-main", "size": 11},
        "constraintext": "none",
        "hoverinfo": "text",
        "hovertext": hover,
    }
    chosen = [value for value, _ in layers.values()]
    largest = [value for _, value in layers.values()]
    pale = {"color": "@line", "line": {"color": "@dot", "width": 1}}
    return [
        {**common, "name": "largest choice", "y": largest, "marker": pale, "text": [""] * len(layers)},
        {**common, "name": "chosen", "y": chosen, "marker": {"color": "@main"}, "text": [f"{v:g}" for v in chosen]},
    ]


def effect_figures(run: RunReport) -> dict[str, Figure]:
    """The effect of each layer's choices, of the embed dim and of the depth, by file name."""
    if not run.effects:
        return {}
    best = run.best.subnet if run.best else None
    kept = run.space.layers_of(best) if best else {}
    result = {"effects-layers": _layer_effects(run.effects["layers"], kept, run.maximize)}
    if embed_dims := run.effects.get("embed_dims"):
        labels = [row["embed_dim"] for row in embed_dims]
        chosen = best.embed_dim if best else None
        result["effects-embed_dim"] = _choice_effects("embed dim", labels, embed_dims, chosen, run.maximize)
    if depths := run.effects.get("depths"):
        labels = [row["depth"] for row in depths]
        result["effects-depth"] = _choice_effects("depth", labels, depths, best.depth if best else None, run.maximize)
    return result


def _layer_effects(layers: Sequence[LayerEffects], kept: Mapping[int, tuple[int, float]], maximize: bool) -> Figure:
    """A heat map: layers across, (heads, FFN ratio) up; stars mark the `kept` choices of the chosen subnet."""
    pairs = sorted({_pair(choice) for layer in layers for choice in layer["choices"]})
    columns = [int(layer["layer"]) for layer in layers]
    by_layer = [{_pair(choice): choice for choice in layer["choices"]} for layer in layers]
    cells = [[choices.get(pair) for choices in by_layer] for pair in pairs]
    stars = [(layer + 1, _pair_name(choice)) for layer, choice in kept.items() if choice in pairs]
    plot_layout = layout(
        430,
        axis("Layer of the supernet", dtick=1, showgrid=False),
        " ".join(filter(None, (_best_choice(layer, maximize) for layer in layers))),
        yaxis=axis("Heads / FFN ratio", type="category", showgrid=False),
    )
    caption = (
        "How far each choice moves the score from the mean, by the score model. Blue is better, orange worse; stars "
        "are the chosen subnet's."
    )
    data = [_heat_map(columns, [_pair_name(pair) for pair in pairs], cells, maximize), _stars(stars)]
    return Figure("Effect of each layer's choices on the score", caption, {"data": data, "layout": plot_layout})


def _best_choice(layer: LayerEffects, maximize: bool) -> str:
    """The choice of a layer with the best effect, in words; nothing if no effect is known."""
    known = [choice for choice in layer["choices"] if choice["effect"] is not None]
    if not known:
        return ""
    best = (max if maximize else min)(known, key=lambda choice: choice["effect"] or 0.0)
    choice = f"{best['heads']:g} heads with FFN ratio {best['ffn_ratio']:g}"
    return f"Layer {layer['layer']:g}: {choice} do best ({best['effect']:+.2g})."


def _heat_map(
    columns: Sequence[int], rows: Sequence[str], cells: Sequence[Sequence[ChoiceEffect | None]], maximize: bool
) -> Plotly:
    return {
        "type": "heatmap",
        "x": columns,
        "y": rows,
        "xgap": 2,
        "ygap": 2,
        "zmid": 0,
        "hoverinfo": "text",
        "z": [[cell and cell["effect"] for cell in row] for row in cells],
        "text": [[_cell_text(column, cell) for column, cell in zip(columns, row)] for row in cells],
        "texttemplate": "",
        "colorscale": _colour_scale(maximize),
        "colorbar": {  # without a title: plotly 3.7 draws it over the bar or, at the top, drops the figure's own title
            "orientation": "h",
            "thickness": 12,
            "len": 1,
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "outlinewidth": 0,
            "nticks": 4,
            "tickangle": 0,
            "tickformat": "~g",
        },
    }


def _stars(places: Sequence[tuple[int, str]]) -> Plotly:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [x for x, _ in places],
        "y": [y for _, y in places],
        "marker": {"symbol": "star", "size": 10, "color": "@star", "line": {"color": "@ground", "width": 1}},
        "hoverinfo": "skip",
    }


def _pair(choice: ChoiceEffect) -> tuple[int, float]:
    return choice["heads"], choice["ffn_ratio"]


def _pair_name(pair: tuple[int, float]) -> str:
    return f"{pair[0]:g} / {pair[1]:g}"


def _cell_text(layer: int, cell: ChoiceEffect | None) -> str:
    if cell is None:
        return ""
    return f"layer {layer:g}: {cell['heads']:g} heads, FFN ratio {cell['ffn_ratio']:g}<br>{_effect_text(cell)}"


def _effect_text(choice: ChoiceEffect) -> str:
    effect, std, count = choice["effect"], choice.get("std"), choice.get("count")
    if effect is None:
        return "effect unknown"
    spread = "" if std is None else f" ± {std:.2g}"
    evidence = "" if count is None else f"<br>seen in {count:,} evaluations"
    return f"effect {effect:+.3g}{spread}{evidence}"


def _colour_scale(maximize: bool) -> list[list[float | str]]:
    low, high = ("@worse", "@better") if maximize else ("@better", "@worse")
    return [[0, low], [0.5, "@middle"], [1, high]]


def _choice_effects(
    title: str, labels: Sequence[int], rows: Sequence[ChoiceEffect], chosen: int | None, maximize: bool
) -> Figure:
    """Bars of the effect of a choice that is one for the whole subnet; `labels` are the values of `rows`."""
    better = [((row["effect"] or 0) > 0) is maximize for row in rows]
    bars = {
        "type": "bar",
        "x": [f"{label:g}" + (" ★" if label == chosen else "") for label in labels],
        "y": [row["effect"] for row in rows],
        "error_y": {"type": "data", "array": [row.get("std") for row in rows], "color": "@ink", "thickness": 1.5},
        "marker": {"color": ["@better" if good else "@worse" for good in better]},
        "text": [f"{title} {label:g}<br>{_effect_text(row)}" for label, row in zip(labels, rows)],
        "textposition": "none",
        "hoverinfo": "text",
    }
    effects = (f"{title} {label:g}: {_effect_text(row).replace('<br>', ', ')}" for label, row in zip(labels, rows))
    plot_layout = layout(
        300,
        axis(sentence(title), type="category", showgrid=False),
        f"{sentence('; '.join(effects))}.",
        yaxis=axis("Effect on the score", zeroline=True, zerolinecolor="@muted"),
        bargap=0.45,
    )
    caption = "Whiskers: one standard deviation. Blue is better than the mean; ★ is the chosen subnet's."
    return Figure(f"Effect of the {title} on the score", caption, {"data": [bars], "layout": plot_layout})
