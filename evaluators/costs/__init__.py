"""Costs of subnets.

analytic.py  params, macs, memory_bytes: exact and additive
latency/     latency_ms: predicted with a bound, measured again at the end

counters.py  the same by other counters
context.py   the input of the costs' constructors


`COSTS` holds the names that budgets and objectives may use; each entry is a function `make(context, argument) -> Cost`.
The argument is the text after the @, as in 'latency_ms@onnxruntime,threads=1'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from evaluators.costs.analytic import AnalyticCost, macs, memory_bytes, params
from evaluators.costs.context import CostContext, Progress
from search_spaces import NasError, Space
from search_spaces.protocols import Cost
from search_spaces.registry import Registry

if TYPE_CHECKING:
    from evaluators.costs.latency.cost import VerifiedLatencyCost
    from supernet import HubertSupernet

__all__ = [
    "AnalyticCost",
    "COSTS",
    "CostContext",
    "get_cost",
    "latency_ms",
    "macs",
    "memory_bytes",
    "of_space",
    "params",
]

COSTS = Registry(
    "cost",
    "lighthubert_nas.costs",
    {
        "params": "evaluators.costs.analytic:make_params",
        "macs": "evaluators.costs.analytic:make_macs",
        "memory_bytes": "evaluators.costs.analytic:make_memory_bytes",
        "latency_ms": "evaluators.costs.latency.cost:make_latency",
    },
)


def get_cost(name: str, context: CostContext) -> Cost:
    """The cost that a budget or objective names: "params", or "latency_ms@onnxruntime,threads=1".

    Raises `NasError` listing the known costs.
    """
    kind, at, argument = name.partition("@")
    make = cast(Callable[[CostContext, str | None], Cost], COSTS.load(kind))
    cost = make(context, argument if at else None)
    if not isinstance(cost, Cost):
        raise NasError(f"cost '{kind}' must make something with .of(subnet); got a {type(cost).__name__}")
    return cost


def of_space(name: str, space: Space) -> Cost:
    """The cost `name`, if the space alone determines it: `nas.search` looks up here what budgets name.

    Raises `NasError` for an unknown name, and for a cost that has to be measured.
    """
    return get_cost(name, CostContext(space))


def latency_ms(
    supernet: HubertSupernet, target: str = "torch", on_progress: Progress | None = None
) -> VerifiedLatencyCost:
    """Latency of the exported module on a target of this machine, such as "onnxruntime,threads=1,seconds=2".

    From the calibration kept for this machine and these versions, or a new one, which takes a minute or more.
    """
    from evaluators.costs.latency.calibration import LatencyCalibration, calibrate_latency, latency_calibration_file
    from evaluators.costs.latency.cost import VerifiedLatencyCost
    from evaluators.costs.latency.target import Target

    on = Target.parse(target)
    file = latency_calibration_file(supernet.space, on)
    if not file.is_file():
        calibrate_latency(supernet, on, on_progress=on_progress).save(file)
    calibration = LatencyCalibration.load(file)
    calibration.check(supernet.space, on)
    return VerifiedLatencyCost(calibration, supernet)
