"""What a search optimises: one score within the budgets, or the front of the score against a cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas import pareto
from nas.runs.ledger import Evaluation
from search_spaces import AdditiveTable, Budget, NasError

__all__ = ["Objective", "best_and_front", "hypervolume_of"]


@dataclass(frozen=True)
class Objective:
    """`maximize`: whether a greater score is better. `cost`: minimised beside the score, or None.

    `table` is the cost as a table, or None if the cost is not additive and can only be measured.
    """

    maximize: bool = True
    cost: str | None = None
    table: AdditiveTable | None = None

    @classmethod
    def parse(
        cls, names: Sequence[str], maximize: bool, known: Sequence[str], tables: Mapping[str, AdditiveTable]
    ) -> Objective:
        """The objective called ("score",), or ("score", a cost of `known`)."""
        if not isinstance(names, (tuple, list)) or len(names) not in (1, 2) or names[0] != "score":
            raise NasError(f"objectives must be ('score',) or ('score', a cost); got {names!r}")
        if len(names) == 1:
            return cls(maximize)
        if names[1] not in known:
            raise NasError(f"unknown cost '{names[1]}' in objectives; known here: {', '.join(known) or 'none'}")
        return cls(maximize, names[1], tables.get(names[1]))

    @property
    def names(self) -> tuple[str, ...]:
        return ("score",) if self.cost is None else ("score", self.cost)

    def best(self, evaluations: Sequence[Evaluation]) -> Evaluation | None:
        """The evaluation with the best score that keeps the budgets: the first of equals, None if there is none."""
        return max((e for e in evaluations if e.ok), key=self.worth, default=None)

    def parents(self, evaluations: Sequence[Evaluation], k: int) -> list[Evaluation]:
        """The `k` best: by score, or by non-dominated rank and crowding if there is a cost to minimise."""
        scored = [e for e in evaluations if e.scored]
        if self.cost is None:
            return sorted(scored, key=self.worth, reverse=True)[:k]
        costs = [e.costs[self.cost] for e in scored]
        return [scored[i] for i in pareto.select(costs, [self.worth(e) for e in scored], k)]

    def worth(self, evaluation: Evaluation) -> float:
        """The score with its sign turned so that greater is better."""
        assert evaluation.score is not None
        return evaluation.score if self.maximize else -evaluation.score


def best_and_front(
    evaluations: Sequence[Evaluation], objective: Objective, front_cost: str | None
) -> tuple[Evaluation | None, list[Evaluation]]:
    """The best evaluation and the front against `front_cost`; without a cost, the front is the best alone."""
    best = objective.best(evaluations)
    if front_cost is None:
        return best, [best] if best else []
    return best, pareto.front(evaluations, front_cost, objective.maximize)


def hypervolume_of(
    evaluations: Sequence[Evaluation], objective: Objective, front_cost: str | None, budgets: Sequence[Budget]
) -> dict[str, object] | None:
    """The hypervolume of the front, and its reference: the budget on its cost or the largest cost; the worst score."""
    if front_cost is None or not any(e.ok for e in evaluations):
        return None
    points = [(float(e.costs[front_cost]), float(e.score)) for e in evaluations if e.ok and e.score is not None]
    limits = (float(budget.limit) for budget in budgets if budget.cost == front_cost)
    largest = min(limits, default=max(cost for cost, _ in points))
    worst = (min if objective.maximize else max)(score for _, score in points)
    costs, scores = zip(*points)
    value = pareto.hypervolume(costs, scores, (largest, worst), objective.maximize)
    return {"value": value, "reference": {"cost": largest, "score": worst}}
