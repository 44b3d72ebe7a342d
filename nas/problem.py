"""A search problem: a space, a score, costs with budgets, and the objective."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from nas.objective import Objective
from search_spaces import (
    AdditiveCost,
    AdditiveTable,
    Budget,
    Cost,
    Feasible,
    HasSpace,
    HeldOutScore,
    NasError,
    PredictedCost,
    Space,
    SpaceError,
    Subnet,
    SuccessiveScore,
    as_space,
)
from search_spaces.types import Number

__all__ = ["Costs", "Problem", "Score", "ScoreInfo", "SubnetScore"]

Score = Callable[[list[Subnet]], Sequence[object]]
"""Any function of a list of subnets; its optional attributes are those of `search_spaces.protocols`."""

SubnetScore = Callable[[Subnet], object]
"""Any function of one subnet: executors recognise it when they first call it."""

_ALWAYS = ("params", "macs")


@dataclass(frozen=True)
class ScoreInfo:
    """The description of a score that run.json keeps."""

    name: str
    higher_is_better: bool
    settings: Mapping[str, object]

    @classmethod
    def of(cls, score: Score | SubnetScore) -> ScoreInfo:
        """From the attributes of a score, which plain functions lack. Raises `NasError` if it is not callable."""
        if not callable(score):
            raise NasError(f"score must be a function of a list of subnets, or of one subnet; got {score!r}")
        name = getattr(score, "name", None) or getattr(score, "__qualname__", type(score).__qualname__)
        return cls(str(name), bool(getattr(score, "higher_is_better", True)), getattr(score, "settings", {}))

    def to_dict(self) -> dict[str, object]:
        return {"name": self.name, **self.settings}


class Costs:
    """The costs of a search by name: `tables` are solved ahead of the search, the others are measured.

    `costs` are the caller's; None: params and macs. What is `named` beside them is made from the space.
    """

    def __init__(
        self, space: Space, costs: Mapping[str, Cost | AdditiveTable] | None, named: Sequence[str] = ()
    ) -> None:
        if not isinstance(costs, Mapping | None):
            raise NasError(f"costs must map names to costs, as in {{'params': table}}; got {type(costs).__name__}")
        costs = {**(costs or {}), **_of_space(space, costs or {}, (*(_ALWAYS if costs is None else ()), *named))}
        self.space, self.names = space, tuple(costs)
        self.tables = {name: table for name, cost in costs.items() if (table := _table(cost)) is not None}
        for name, table in self.tables.items():
            if table.space != space:
                raise SpaceError(f"cost '{name}' is of space '{table.space.name}', the search is in '{space.name}'")
        self._measured: dict[str, Cost] = {}
        for name, cost in costs.items():
            if name not in self.tables:
                if not isinstance(cost, Cost):
                    kind = type(cost).__name__
                    raise NasError(f"cost '{name}' must be an AdditiveTable or have .of(subnet); got {kind}")
                self._measured[name] = cost
        self.predicted = {name: cost for name, cost in costs.items() if isinstance(cost, PredictedCost)}

    def absolute(self, budget: Budget) -> Budget:
        """A budget that is a share of the largest subnet's cost in units of that cost, others as they are."""
        if not budget.percent or budget.cost not in self.names:
            return budget
        if budget.cost not in self.tables:
            raise NasError(f"budget {budget}: a share needs a cost that is a table; give the limit in its own unit")
        return budget.of_largest(self.tables[budget.cost].of(self.space.largest))

    def feasible(self, budgets: Sequence[Budget], uniform: bool = False) -> Feasible:
        """The subnets (uniform ones alone, if wanted) that keep the budgets on tables.

        Of several budgets on one cost only the tightest matters.
        """
        tightest: dict[str, Number] = {}
        for budget in budgets:
            tightest[budget.cost] = min(budget.limit, tightest.get(budget.cost, budget.limit))
        limits = [(self.tables[c], limit) for c, limit in tightest.items() if c in self.tables]
        return Feasible(self.space, limits, uniform)

    def of(self, subnet: Subnet) -> dict[str, Number]:
        """All costs of a subnet, in the order in which they were given."""
        costs = self.of_tables(subnet)
        for name, cost in self._measured.items():
            value = cost.of(subnet)
            costs[name] = value if isinstance(value, int) else float(value)
            if not math.isfinite(costs[name]):
                raise ValueError(f"{name} is {costs[name]}")
        return {name: costs[name] for name in self.names}

    def of_tables(self, subnet: Subnet) -> dict[str, Number]:
        """The costs that are tables."""
        return {name: table.of(subnet) for name, table in self.tables.items()}


def _of_space(space: Space, given: Mapping[str, object], named: Sequence[str]) -> dict[str, Cost]:
    """The costs `named` that are not `given`, as far as the space determines them.

    They come from evaluators/, which nas/ does not import: by name, when they are needed.
    """
    made: dict[str, Cost] = {}
    for name in dict.fromkeys(named):
        if name not in given:
            costs = import_module("evaluators.costs")
            if str(name).partition("@")[0] not in costs.COSTS:
                known = ", ".join(dict.fromkeys((*given, *costs.COSTS)))
                raise NasError(f"unknown cost '{name}' in budgets or objectives; known here: {known}")
            made[name] = costs.of_space(name, space)
    return made


def _table(cost: object) -> AdditiveTable | None:
    if isinstance(cost, AdditiveTable):
        return cost
    return cost.table if isinstance(cost, AdditiveCost) and isinstance(cost.table, AdditiveTable) else None


@dataclass(frozen=True)
class Problem:
    """A search problem, checked: `feasible` holds the subnets that may be proposed, and is not empty.

    `front_cost` is the cost that the front is against: the objective's, else the first budget's, else the first cost.
    """

    space: Space
    score: Score | SubnetScore
    info: ScoreInfo
    costs: Costs
    budgets: tuple[Budget, ...]
    feasible: Feasible
    objective: Objective
    front_cost: str | None

    @property
    def held_out(self) -> Callable[[list[Subnet]], Sequence[float]] | None:
        """The score on speech that it sets apart, if it does."""
        return self.score.held_out if isinstance(self.score, HeldOutScore) else None

    @classmethod
    def of(
        cls,
        space: Space | HasSpace | str | os.PathLike[str],
        score: Score | SubnetScore,
        costs: Mapping[str, Cost | AdditiveTable] | None,
        budgets: Sequence[str | Budget],
        objectives: Sequence[str],
        uniform: bool = False,
    ) -> Problem:
        """Raises `NasError` for a user's mistake, and `InfeasibleError` if no subnet keeps the budgets."""
        space, info, parsed = as_space(space), ScoreInfo.of(score), _parsed(budgets)
        named = objectives[1:] if isinstance(objectives, (tuple, list)) else ()
        known = Costs(space, costs, (*(budget.cost for budget in parsed), *named))
        limits = tuple(known.absolute(budget) for budget in parsed)
        feasible = known.feasible(limits, uniform)
        feasible.sample(np.random.default_rng(0))  # raises if nothing fits
        objective = Objective.parse(objectives, info.higher_is_better, known.names, known.tables)
        if isinstance(score, SuccessiveScore) and objective.cost is not None:
            raise NasError(
                "successive evaluation is for the objective score alone: a front has no one best to rule out by"
            )
        front_cost = objective.cost or next((b.cost for b in limits), next(iter(known.names), None))
        return cls(space, score, info, known, limits, feasible, objective, front_cost)


def _parsed(budgets: Sequence[str | Budget]) -> tuple[Budget, ...]:
    if not isinstance(budgets, (tuple, list)) or not all(isinstance(each, (str, Budget)) for each in budgets):
        raise NasError(f"budgets must be a tuple like ('params<=27M',); got {budgets!r}")
    return tuple(Budget.parse(each, known=None) if isinstance(each, str) else each for each in budgets)
