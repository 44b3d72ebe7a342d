"""Where subnets are scored. An executor's `run(subnets)` yields lists of `Outcome`, in the order of the subnets.

local.py  in this process
ray.py    on a Ray cluster; what it can do beyond `run` is in `Concurrent`

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
    """An executor that scores many subnets at once, and can tell of each as it is done."""

    @property
    def alive(self) -> int:
        """How many evaluators are ready to score."""
        ...

    def submit(self, subnets: Sequence[Subnet], best: Evaluation | None = None) -> None:
        """Adds subnets to what is to be scored; their outcomes come from `collect`."""
        ...

    def collect(self) -> list[tuple[Subnet, Outcome]]:
        """What became known, in no order; returns after a second at most, empty-handed where nothing did."""
        ...
