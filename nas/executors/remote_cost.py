"""Costs that are measured on the nodes that they are meant for, while the scores come from others."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
from typing import Any

from nas.executors.cluster import check_room, difference, the_ray, versions
from nas.executors.shared import shared, unpacked
from search_spaces import NasError, Subnet

__all__ = ["RemoteCost"]

_MOST_DEATHS = 4


class RemoteCost:
    """A measured cost, measured on nodes that have a custom resource, one subnet at a time on each.

    `cost` is pickled to the nodes with the resource (`ray start --resources '{"jetson": 1}'`); the call takes one
    unit of it. `of` measures one subnet, `ahead` begins with those that will be asked for. To be used inside the
    block of a connected `RayExecutor`.
    """

    def __init__(self, cost: Any, resource: str, wait: bool = False) -> None:
        self._ray = the_ray()
        check_room(self._ray, 1, {resource: 1.0}, wait)
        self._shared = shared(self._ray, cost)
        options = {"num_cpus": 0, "resources": {resource: 1.0}, "max_retries": _MOST_DEATHS}
        self._measure = self._ray.remote(_measured).options(**options)
        self._begun: dict[Subnet, Any] = {}

    def ahead(self, subnets: Sequence[Subnet]) -> None:
        """Begins to measure."""
        for subnet in subnets:
            self._begun.setdefault(subnet, self._measure.remote(self._shared, subnet, versions()))

    def of(self, subnet: Subnet) -> float:
        """The cost, as measured on a node with the resource."""
        self.ahead([subnet])
        errors = importlib.import_module("ray.exceptions")
        try:
            return self._ray.get(self._begun.pop(subnet))  # type: ignore[no-any-return]
        except errors.RayTaskError as error:
            raise error.cause or error from None


_HELD: dict[str, Any] = {}


def _measured(packed: Any, subnet: Subnet, wanted: dict[str, str]) -> float:
    """Runs on the node: the cost is unpacked once in each worker process."""
    if problem := difference(wanted, versions()):
        raise NasError(problem)
    key = hashlib.sha256(packed[0]).hexdigest()
    if key not in _HELD:
        _HELD.clear()
        _HELD[key] = unpacked(packed, "cpu")
    value = _HELD[key].of(subnet)
    return value if isinstance(value, int) else float(value)
