"""Executors score subnets: `run(subnets)` yields lists of `Outcome`, in the order of the subnets.

local.py  in this process
ray.py    on a Ray cluster; also `Concurrent`

Beside it: cluster.py (joining one, its room, its versions), shared.py (the object store), remote_call.py (calls
on nodes of their own, where latency is measured) and train.py (training in several processes of a cluster).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from nas.executors.local import LocalExecutor, Outcome
from nas.runs.ledger import Evaluation
from search_spaces import Subnet

__all__ = ["Concurrent", "Executor", "LocalExecutor", "Outcome"]


class Executor(Protocol):
    """Scores subnets."""

    def run(self, subnets: Sequence[Subnet], best: Evaluation | None = None) -> Iterator[list[Outcome]]:
        """Outcomes in the order of `subnets`, in the chunks in which they become known.

        `best` is given to scores that can rule subnets out against it.
        """
        ...


@runtime_checkable
class Concurrent(Executor, Protocol):
    """An executor that scores many subnets at once, and reports each as it is finished."""

    @property
    def alive(self) -> int:
        """How many evaluators are ready to score."""
        ...

    def submit(self, subnets: Sequence[Subnet], best: Evaluation | None = None) -> None:
        """Queues subnets; their outcomes come from `collect`."""
        ...

    def collect(self) -> list[tuple[Subnet, Outcome]]:
        """New outcomes, in no order; returns after at most a second, with an empty list if there are none."""
        ...
