"""How well the order of subnets is known."""

from __future__ import annotations

from collections.abc import Mapping

from nas.report.figures.base import Figure, Plotly, axis, layout, wrapped
from nas.report.formatting import spaced
from nas.report.run_json import Tau, Trust

__all__ = ["trust_figure"]

_SCORES = ("score model", "scored again")


def trust_figure(trust: Trust | None) -> Figure | None:
    """Kendall's tau of every predictor of the order of subnets, with its interval; None if no tau is known."""
    rows = _known_taus(trust or {})
    if not rows:
        return None
    bars = _bars(rows)
    low = min(0.0, *(low - 0.02 for _, low, _ in rows.values()))
    title = "Kendall's τ<br>(1: same order,<br>0: none)"
    plot_layout = layout(
        120 + 56 * len(rows),
        axis(title, range=[low, 1.02], dtick=0.25),
        " ".join(f"{name}: {tau:.2f} ({low:.2f} to {high:.2f})." for name, (tau, low, high) in rows.items()),
        yaxis=axis("", autorange="reversed", showgrid=False),
        bargap=0.45,
    )
    caption = "How well the order of subnets is known beforehand; whiskers are the interval of each value."
    return Figure("Agreement on which subnet is better", caption, {"data": [bars], "layout": plot_layout})


def _known_taus(trust: Trust) -> dict[str, tuple[float, float, float]]:
    """(tau, low, high) by name; without an interval, both ends are the value itself."""
    taus: dict[str, Tau | None] = {"score model": trust.get("model")}
    taus |= {f"{spaced(cost)} alone": tau for cost, tau in (trust.get("by_cost") or {}).items()}
    taus["scored again"] = trust.get("rescored")
    return {name: interval for name, tau in taus.items() if tau and (interval := _interval(tau))}


def _interval(tau: Tau) -> tuple[float, float, float] | None:
    value, low, high = tau.get("tau"), tau.get("low"), tau.get("high")
    if value is None:
        return None
    return value, float(value if low is None else low), float(value if high is None else high)


def _bars(rows: Mapping[str, tuple[float, float, float]]) -> Plotly:
    intervals = list(rows.values())
    return {
        "type": "bar",
        "orientation": "h",
        "x": [tau for tau, _, _ in intervals],
        "y": [
            f"{wrapped(name, 24)}<br><b>{tau:.2f}</b> ({low:.2f} to {high:.2f})"
            for name, (tau, low, high) in rows.items()
        ],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "color": "@ink",
            "thickness": 1.5,
            "array": [high - tau for tau, _, high in intervals],
            "arrayminus": [tau - low for tau, low, _ in intervals],
        },
        "marker": {"color": ["@main" if name in _SCORES else "@dot" for name in rows]},
        "hoverinfo": "skip",
    }
