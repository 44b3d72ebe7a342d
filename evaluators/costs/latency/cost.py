"""Latency as a cost that holds: predicted with an upper bound, and measured again at the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING

from evaluators.costs.context import CostContext
from evaluators.costs.latency.calibration import (
    LatencyCalibration,
    calibrate_latency,
    latency_calibration_file,
    require_possible,
)
from evaluators.costs.latency.measure import measure
from evaluators.costs.latency.model import CONFIDENCE
from evaluators.costs.latency.target import Target
from search_spaces import AdditiveTable, NasError, Subnet

if TYPE_CHECKING:
    from supernet.model import HubertSupernet

__all__ = ["LatencyCost", "RemoteLatencyCost", "VerifiedLatencyCost", "make_latency"]

_VERIFY_PASSES = 5
MEASURED_CONFIDENCE = 0.975
Verification = dict[str, object]


class LatencyCost:
    """Milliseconds of the exported subnet: `table` and `of` give the upper bound, which all but 1 % keep.

    A calibration of any machine is enough; a `VerifiedLatencyCost` can also be measured again.
    """

    name = "latency_ms"
    unit = "ms"

    def __init__(self, calibration: LatencyCalibration) -> None:
        self.calibration = calibration

    @property
    def convention(self) -> str:
        target, margin = self.calibration.target, self.calibration.model.margin()
        return f"upper bound at {self.confidence:.1%} (mean + {margin:.1%}) of the exported module on {target}"

    @property
    def confidence(self) -> float:
        """Share of subnets that keep the bound."""
        return self.calibration.model.confidence(CONFIDENCE)

    @cached_property
    def table(self) -> AdditiveTable:
        """The upper bound."""
        return self.calibration.model.table(self.calibration.model.margin())

    @cached_property
    def mean(self) -> AdditiveTable:
        """The prediction itself."""
        return self.calibration.model.table()

    def of(self, subnet: Subnet) -> float:
        """The upper bound of one subnet."""
        return float(self.table.of(subnet))


class VerifiedLatencyCost(LatencyCost):
    """A latency whose target is on this machine, and whose supernet is loaded: `verify` measures exports again."""

    def __init__(self, calibration: LatencyCalibration, supernet: HubertSupernet) -> None:
        super().__init__(calibration)
        calibration.check(supernet.space, calibration.target)
        self._supernet = supernet

    def verify(self, subnet: Subnet, limit: float) -> Verification:
        """Exports the subnet, measures it beside the calibration's reference, and checks the limit."""
        held = self.calibration.timings
        timings = measure(
            self._supernet, [subnet], held.target, held.reference, held.reference_ms, 6.0, _VERIFY_PASSES, shipped=True
        )
        ms, error = float(timings.ms[0]), float(timings.error[0])
        return {
            "target": str(held.target),
            "predicted_ms": float(self.mean.of(subnet)),
            "bound_ms": self.of(subnet),
            "bound_confidence": self.confidence,
            "measured_ms": ms,
            "measured_at_most_ms": ms * (1 + error),
            "measured_confidence": MEASURED_CONFIDENCE,
            "raw_ms": float(timings.raw_ms[0]),
            "machine_slower_by": timings.slower,
            "warnings": timings.warnings(),
            "limit_ms": limit,
            "keeps": ms * (1 + error) <= limit,
        }


class RemoteLatencyCost(LatencyCost):
    """A latency whose target is on another node: `call(function, *arguments)` runs there."""

    def __init__(
        self, calibration: LatencyCalibration, supernet: HubertSupernet, call: Callable[..., Verification]
    ) -> None:
        super().__init__(calibration)
        self._verify = partial(call, _verified, calibration, supernet)

    def verify(self, subnet: Subnet, limit: float) -> Verification:
        """The result of `VerifiedLatencyCost.verify` on the node."""
        return self._verify(subnet, limit)


def _verified(calibration: LatencyCalibration, supernet: HubertSupernet, subnet: Subnet, limit: float) -> Verification:
    """Runs on the node that has the target."""
    return VerifiedLatencyCost(calibration, supernet).verify(subnet, limit)


# -------------------------------------------------------------------- for budgets and objectives


def make_latency(context: CostContext, argument: str | None) -> LatencyCost:
    """The latency on a target, or on the machine of a calibration file: `latency_ms@FILE.json`.

    The calibration is that of the run being resumed, of the file, of the cache, or made now. One from a file may be of
    any machine, so it is not verified here.
    """
    words = argument or ""
    if words.endswith(".json"):
        calibration = _kept(context) or LatencyCalibration.load(words)
        calibration.check_space(context.space)
        return LatencyCost(calibration)
    supernet = context.supernet
    if supernet is None:
        raise NasError(
            "latency_ms is measured on exported subnets: it needs a supernet, a space is not enough (in Python: "
            "costs={'latency_ms': evaluators.costs.latency_ms(model)})"
        )
    target = Target.parse(words)
    if context.remote is not None:
        calibration = _kept(context) or context.remote(calibrate_latency, supernet, target)
        calibration.check_space(supernet.space)
        return RemoteLatencyCost(calibration, supernet, context.remote)
    target.check_here()
    calibration = _kept(context) or _of_this_machine(context, supernet, target)
    calibration.check(supernet.space, target)
    return VerifiedLatencyCost(calibration, supernet)


def _kept(context: CostContext) -> LatencyCalibration | None:
    return (
        None
        if context.calibration is None
        else LatencyCalibration.from_dict(context.calibration, "the calibration in run.json")
    )


def _of_this_machine(context: CostContext, supernet: HubertSupernet, target: Target) -> LatencyCalibration:
    """The cached calibration, or a new one; none is made if even the smallest subnet is far over the limit."""
    file = latency_calibration_file(supernet.space, target)
    if file.is_file():
        return LatencyCalibration.load(file)
    if context.limit is not None:
        require_possible(supernet, target, context.limit)
    context.log(f"no calibration of {target} on this machine yet: measuring, once (nas latency calibrate)")
    with context.progress() as on_progress:
        calibration = calibrate_latency(supernet, target, on_progress=on_progress)
    context.log(f"calibration: {calibration.save(file)}")
    for warning in calibration.timings.warnings():
        context.log(f"note: {warning}")
    return calibration
