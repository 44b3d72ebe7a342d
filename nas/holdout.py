"""The winner named by speech that the search did not use.

A search fits the few utterances it scores on, and the best of many scores is partly luck: the closer the candidates,
the more. So the last candidates are scored again on utterances set apart, and the best of them there is the winner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from nas.objective import Objective
from nas.runs.ledger import Evaluation
from search_spaces import Subnet
from search_spaces.types import JsonObject

__all__ = ["FINALISTS", "held_out_finalists", "summed_up_finalists"]

FINALISTS, _UNIFORM = 16, 4


def held_out_finalists(
    evaluations: Sequence[Evaluation], objective: Objective, held_out: Callable[[list[Subnet]], Sequence[float]]
) -> list[Evaluation]:
    """The best `FINALISTS` and the best few uniform subnets, with their scores on other speech, best there first.

    Those whose score there is not a number are left out.
    """
    ranked = sorted((e for e in evaluations if e.ok), key=objective.worth, reverse=True)
    uniform = [e for e in ranked if e.subnet.uniform][:_UNIFORM]
    chosen = list({e.index: e for e in (*ranked[:FINALISTS], *uniform)}.values())
    again = held_out([e.subnet for e in chosen]) if chosen else ()
    scored = [replace(e, score=float(score)) for e, score in zip(chosen, again, strict=True)]
    return sorted((e for e in scored if math.isfinite(float(e.score or 0))), key=objective.worth, reverse=True)


def summed_up_finalists(
    finalists: Sequence[Evaluation], evaluations: Sequence[Evaluation], speech: str
) -> JsonObject | None:
    """The same for run.json: the winner's index, and both scores of each; None if there are none."""
    if not finalists:
        return None
    score = {e.index: e.score for e in evaluations}
    rows = [{"id": e.subnet.id, "score": score[e.index], "rescored": e.score} for e in finalists]
    return {"winner": finalists[0].index, "speech": speech, "rows": rows}
