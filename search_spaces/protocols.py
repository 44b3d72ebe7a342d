"""Costs and scores, as protocols that users may implement.

Cost             of(subnet)                            computed or measured for one subnet at a time
└ AdditiveCost   + table                               only subnets that keep its budgets are ever proposed
  └ PredictedCost  + verify(subnet, limit)             after the search, measured on the exported subnet

Score            __call__(subnets)                     one number for each subnet; name, direction, settings
SuccessiveScore  + against(subnets, best, score)       rules out subnets on part of the data
HeldOutScore     + held_out                            the same score on data that the search does not use

HasSpace         space                                 a supernet, as far as exact costs and searches need to know it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from search_spaces.additive import AdditiveTable
from search_spaces.space import Space
from search_spaces.subnet import Subnet

__all__ = ["AdditiveCost", "Cost", "HasSpace", "HeldOutScore", "PredictedCost", "Score", "SuccessiveScore"]


@runtime_checkable
class Cost(Protocol):
    """What a subnet takes: parameters, time, memory."""

    def of(self, subnet: Subnet) -> int | float:
        """The cost of one subnet, in the cost's unit; an int if it is exact."""
        ...


@runtime_checkable
class AdditiveCost(Cost, Protocol):
    """A cost that is a constant plus a sum over layers. An `AdditiveTable` is one itself."""

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

    `name` and `settings` are stored in run.json; a run can be resumed only with equal ones.
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
    """A score that spends less time on subnets that cannot be the best."""

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


class HasSpace(Protocol):
    """A supernet, whose `space` holds its subnets."""

    @property
    def space(self) -> Space: ...
