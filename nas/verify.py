"""Budgets on predicted costs, checked again on what is shipped.

A `PredictedCost` has `verify(subnet, limit)`, which measures the exported subnet. After the search the best candidates
are measured, best first; the first that keeps every such budget is the winner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.objective import Objective
from nas.runs.ledger import Evaluation
from search_spaces import Budget, PredictedCost
from search_spaces.types import JsonMapping, JsonObject

__all__ = ["MAX_CANDIDATES", "missed", "verify"]

MAX_CANDIDATES = 5


def verify(
    evaluations: Sequence[Evaluation],
    objective: Objective,
    budgets: Sequence[Budget],
    predicted: Mapping[str, PredictedCost],
) -> JsonObject | None:
    """The `winner` (index, or None), the first of the best evaluations that keeps its budgets, and all measurements.

    None if no budget is on a predicted cost, or nothing was scored.
    """
    checked = [budget for budget in budgets if budget.cost in predicted]
    ranked = sorted((e for e in evaluations if e.ok), key=objective.worth, reverse=True)[:MAX_CANDIDATES]
    if not checked or not ranked:
        return None
    candidates: list[JsonObject] = []
    for evaluation in ranked:
        measurements = {str(b): dict(predicted[b.cost].verify(evaluation.subnet, float(b.limit))) for b in checked}
        candidates.append({"index": evaluation.index, "id": evaluation.subnet.id, "budgets": measurements})
        if all(measured["keeps"] for measured in measurements.values()):
            return {"winner": evaluation.index, "candidates": candidates}
    return {"winner": None, "candidates": candidates}


def missed(verification: JsonMapping) -> str:
    """One line: by how much the nearest of the candidates missed its budget."""
    worst = [
        max(
            ((m["measured_at_most_ms"] / m["limit_ms"], budget, m) for budget, m in c["budgets"].items()),
            key=lambda t: t[0],
        )
        for c in verification["candidates"]
    ]
    share, budget, measured = min(worst, key=lambda t: t[0])
    return (
        f"none of the best {len(worst)} subnets keeps its budget when measured again: the nearest missed {budget} by "
        f"{share - 1:.1%} (measured {measured['measured_ms']:.4g} ms, at most {measured['measured_at_most_ms']:.4g} at "
        f"{measured['measured_confidence']:.1%} confidence; predicted {measured['predicted_ms']:.4g})"
    )
