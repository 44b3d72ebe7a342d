"""What a cost and a score are, and a number that says how it was got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from search_spaces import Subnet

__all__ = ["Cost", "Measurement", "Score"]


@dataclass(frozen=True)
class Measurement:
    """A value with its unit, how it was got ("analytic", "median of 20 runs"), and its spread, in the same unit."""

    value: float
    unit: str
    method: str
    spread: float = 0.0

    def __float__(self) -> float:
        return float(self.value)


class Cost(Protocol):
    """What a subnet takes. An additive cost also has `table`, an `AdditiveTable`: budgets on it are solved ahead."""

    name: str
    unit: str

    def of(self, subnet: Subnet) -> float:
        """The cost of one subnet, in `unit`; an int where it is exact."""
        ...


class Score(Protocol):
    """What subnets are worth, from a proxy. May have `settings`: a dict of what makes one score differ from another.

    May also have `against(subnets, best, score)`, which gives (score, ruled out) of each subnet: those that cannot be
    better than the subnet `best`, of that score, are ruled out before all is spent on them, their score an estimate.
    """

    name: str
    higher_is_better: bool

    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        """One number for each subnet, which does not depend on the others."""
        ...
