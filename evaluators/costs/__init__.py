"""What a subnet takes. `COSTS` maps each name to its constructor, as "module:function"."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evaluators.costs.analytic import AnalyticCost, macs, params

if TYPE_CHECKING:
    from evaluators.costs.latency.calibration import LatencyCost

__all__ = ["AnalyticCost", "COSTS", "latency_ms", "macs", "params"]

COSTS = {
    "params": "evaluators.costs.analytic:params",
    "macs": "evaluators.costs.analytic:macs",
    "latency_ms": "evaluators.costs.latency.calibration:LatencyCost",
}


def latency_ms(
    supernet: Any, target: str = "torch", on_progress: Callable[[int, int], None] | None = None
) -> LatencyCost:
    """Latency of the exported module on a target of this machine, such as "onnxruntime,threads=1,seconds=2".

    From the calibration kept for this machine and these versions, or a new one, which takes a minute or a few.
    """
    from evaluators.costs.latency.calibration import (
        LatencyCalibration,
        LatencyCost,
        calibrate_latency,
        latency_calibration_file,
    )
    from evaluators.costs.latency.target import Target

    on = Target.parse(target)
    file = latency_calibration_file(supernet.space, on)
    if not file.is_file():
        calibrate_latency(supernet, on, on_progress=on_progress).save(file)
    calibration = LatencyCalibration.load(file)
    calibration.check(supernet.space, on)
    return LatencyCost(calibration, supernet)
