"""Budgets on predicted costs, checked again on what is shipped.

A cost whose table is a prediction has `verify(subnet, limit)`: it measures afresh, and gives a dict of plain numbers
with `keeps`, `measured_ms` and `measured_at_most_ms`. After the search the best candidates are measured, best first;
the first that keeps every such budget is the winner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nas.objective import Objective
from nas.runs.ledger import Evaluation
from search_spaces.budget import Budget

__all__ = ["MOST_CANDIDATES", "missed", "verify"]

MOST_CANDIDATES = 5
Verifier = Callable[[Any, float], Mapping[str, Any]]


def verify(
    evaluations: Sequence[Evaluation],
    objective: Objective,
    budgets: Sequence[Budget],
    verifiers: Mapping[str, Verifier],
) -> dict[str, Any] | None:
    """Which of the best evaluations keeps what it promised: its `winner` (index, or None) and every measurement made.

    None where no budget is on a cost that can be verified, or nothing was scored.
    """
    checked = [budget for budget in budgets if budget.cost in verifiers]
    ranked = sorted((e for e in evaluations if e.ok), key=objective.worth, reverse=True)[:MOST_CANDIDATES]
    if not checked or not ranked:
        return None
    candidates: list[dict[str, Any]] = []
    for evaluation in ranked:
        found = {str(b): dict(verifiers[b.cost](evaluation.subnet, float(b.limit))) for b in checked}
        candidates.append({"index": evaluation.index, "id": evaluation.subnet.id, "budgets": found})
        if all(measured["keeps"] for measured in found.values()):
            return {"winner": evaluation.index, "candidates": candidates}
    return {"winner": None, "candidates": candidates}


def missed(verification: Mapping[str, Any]) -> str:
    """By how much the candidates missed their budgets, in one line: the nearest of them."""
    worst = [
        max(
            ((m["measured_at_most_ms"] / m["limit_ms"], said, m) for said, m in c["budgets"].items()),
            key=lambda t: t[0],
        )
        for c in verification["candidates"]
    ]
    share, said, measured = min(worst, key=lambda t: t[0])
    return (
        f"none of the best {len(worst)} subnets keeps its budget when measured again: the nearest missed {said} by "
        f"{share - 1:.1%} (measured {measured['measured_ms']:.4g} ms, at most {measured['measured_at_most_ms']:.4g} at "
        f"{measured['measured_confidence']:.1%} confidence; predicted {measured['predicted_ms']:.4g})"
    )
