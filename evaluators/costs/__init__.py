"""What a subnet takes. `COSTS` maps each name to its constructor, as "module:function"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evaluators.costs.analytic import AnalyticCost, macs, params

if TYPE_CHECKING:
    from evaluators.costs.latency import LatencyCost

__all__ = ["AnalyticCost", "COSTS", "latency_ms", "macs", "params"]

COSTS = {
    "params": "evaluators.costs.analytic:params",
    "macs": "evaluators.costs.analytic:macs",
    "latency_ms": "evaluators.costs.latency:LatencyCost",
}


def latency_ms(supernet: Any, **settings: Any) -> LatencyCost:
    """Measured latency of the extracted module: see `evaluators.costs.latency.LatencyCost`."""
    from evaluators.costs.latency import LatencyCost

    return LatencyCost(supernet, **settings)
