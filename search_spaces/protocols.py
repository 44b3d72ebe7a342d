"""What a search works with: costs and scores, as protocols that users may implement.

Cost             of(subnet)                            measured subnet by subnet
└ AdditiveCost   + table                               budgets on it are solved before anything is evaluated
  └ PredictedCost  + verify(subnet, limit)             measured again on what is shipped, after the search

Score            __call__(subnets)                     one number for each subnet; name, direction, settings
SuccessiveScore  + against(subnets, best, score)       a score that may rule subnets out on part of the data
HeldOutScore     + held_out                            a score that has data which the search does not use
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from search_spaces.additive import AdditiveTable
from search_spaces.subnet import Subnet

__all__ = ["AdditiveCost", "Cost", "HeldOutScore", "PredictedCost", "Score", "SuccessiveScore"]


@runtime_checkable
class Cost(Protocol):
    """What a subnet takes."""

    def of(self, subnet: Subnet) -> int | float:
        """The cost of one subnet, in the cost's unit; an int where it is exact."""
        ...


@runtime_checkable
class AdditiveCost(Cost, Protocol):
    """A cost that is a constant plus a sum over layers."""

    @property
    def table(self) -> AdditiveTable:
        """The cost over the whole space."""
        ...


@runtime_checkable
class PredictedCost(AdditiveCost, Protocol):
    """A cost whose table is a prediction, which can be measured on the exported subnet."""

    def verify(self, subnet: Subnet, limit: float) -> Mapping[str, object]:
        """Measures the exported subnet: "keeps" (bool), "measured_ms", "measured_at_most_ms" and details."""
        ...


@runtime_checkable
class Score(Protocol):
    """What subnets are worth, from a proxy.

    `name` and `settings` go into run.json; a run is resumed only with the same ones.
    """

    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    @property
    def settings(self) -> Mapping[str, object]: ...

    def __call__(self, subnets: Sequence[Subnet]) -> Sequence[float]:
        """One number for each subnet, independent of the other subnets."""
        ...


@runtime_checkable
class SuccessiveScore(Protocol):
    """A score that spends less on subnets that cannot be the best."""

    def __call__(self, subnets: Sequence[Subnet]) -> Sequence[float]: ...

    def against(self, subnets: Sequence[Subnet], best: Subnet, score: float) -> Sequence[tuple[float, bool]]:
        """(score, ruled out) of each subnet, compared with the subnet `best` of that `score`.

        The score of a subnet that is ruled out is an estimate.
        """
        ...


@runtime_checkable
class HeldOutScore(Protocol):
    """A score that can be computed on data which the search does not use."""

    def __call__(self, subnets: Sequence[Subnet]) -> Sequence[float]: ...

    @property
    def held_out(self) -> Score | None:
        """The same score on that data; None if there is too little."""
        ...
