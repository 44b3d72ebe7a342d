"""Subnets to evaluations: costs first, then the score of those that keep the budgets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import cast

from nas.executors import Concurrent, Executor, Outcome
from nas.executors.local import one_line
from nas.problem import Problem
from nas.runs.ledger import Evaluation
from search_spaces import RunError, Subnet, SuccessiveScore

__all__ = ["SubnetEvaluator", "utc_now"]


class SubnetEvaluator:
    """Evaluates subnets of a `Problem` on an executor."""

    def __init__(self, problem: Problem, executor: Executor) -> None:
        self.problem, self.executor = problem, executor
        self._compares = isinstance(problem.score, SuccessiveScore)
        self._submitted: dict[Subnet, Evaluation] = {}

    @property
    def under_way(self) -> int:
        """How many subnets were submitted and are not finished."""
        return len(self._submitted)

    def submit(self, subnets: Sequence[Subnet], known: Sequence[Evaluation]) -> None:
        """Starts to evaluate `subnets`, on an executor that reports each as it is finished."""
        costed = [self._costed(subnet, 0) for subnet in subnets]
        self._submitted |= {evaluation.subnet: evaluation for evaluation in costed}
        within = [evaluation.subnet for evaluation in costed if evaluation.ok]
        cast(Concurrent, self.executor).submit(within, self._rival(known))

    def finished(self, first: int) -> list[Evaluation]:
        """What is finished by now, numbered from `first` in the order of completion."""
        done = [self._submitted.pop(e.subnet) for e in list(self._submitted.values()) if not e.ok]
        if not done:
            outcomes = cast(Concurrent, self.executor).collect()
            done = [_scored(self._submitted.pop(s), outcome) for s, outcome in outcomes if s in self._submitted]
        return [replace(evaluation, index=index) for index, evaluation in enumerate(done, start=first)]

    def run(self, subnets: Sequence[Subnet], first: int, known: Sequence[Evaluation]) -> Iterator[list[Evaluation]]:
        """Evaluations in the order of `subnets`, numbered from `first`, in chunks as they become known.

        `known` are the evaluations before this batch: nothing depends on where a batch was interrupted.
        """
        waiting = [self._costed(subnet, index) for index, subnet in enumerate(subnets, start=first)]
        within = [evaluation.subnet for evaluation in waiting if evaluation.ok]
        for outcomes in self.executor.run(within, self._rival(known)):
            chunk: list[Evaluation] = []
            for outcome in outcomes:
                while not waiting[0].ok:
                    chunk.append(waiting.pop(0))
                chunk.append(_scored(waiting.pop(0), outcome))
            yield chunk
        if waiting:
            yield waiting

    def imported(self, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
        """Evaluations that were made elsewhere, with the costs of this problem, numbered from 0.

        Those of subnets that this search may not choose are "ruled out".
        """
        return [self._imported(evaluation, index) for index, evaluation in enumerate(evaluations)]

    def _imported(self, evaluation: Evaluation, index: int) -> Evaluation:
        costed = self._costed(evaluation.subnet, index)
        if costed.status == "failed":
            return replace(costed, origin=evaluation.origin)
        chosen = costed.ok and self.problem.feasible.contains(evaluation.subnet)
        return replace(evaluation, index=index, costs=costed.costs, status=evaluation.status if chosen else "ruled out")

    def check_replay(self, subnet: Subnet, evaluation: Evaluation) -> None:
        """Raises `RunError` if the ledger holds another subnet, or a table gives it other costs now."""
        held = evaluation.subnet
        if subnet != held:
            raise RunError(
                f"cannot resume: evaluation {evaluation.index} should be of subnet {subnet.id}, but the ledger holds "
                f"{held.id}; settings or versions changed"
            )
        for name, table in self.problem.costs.tables.items():
            if table.of(subnet) != evaluation.costs.get(name):
                raise RunError(
                    f"cannot resume: {name} of subnet {subnet.id} is {table.of(subnet)}, but the ledger holds "
                    f"{evaluation.costs.get(name)}; the cost changed"
                )

    def _rival(self, known: Sequence[Evaluation]) -> Evaluation | None:
        """The evaluation that a successive score compares with."""
        return self.problem.objective.best(known) if self._compares else None

    def _costed(self, subnet: Subnet, index: int) -> Evaluation:
        start, costs = time.perf_counter(), self.problem.costs
        try:
            values, error = costs.of(subnet), None
        except Exception as raised:  # a cost that cannot be measured fails its subnet, not the search
            values, error = costs.of_tables(subnet), one_line(raised)
        over = any(not budget.keeps(values.get(budget.cost, 0)) for budget in self.problem.budgets)
        status = "failed" if error else "over budget" if over else "ok"
        return Evaluation(index, subnet, values, None, status, error, time.perf_counter() - start, utc_now())


def _scored(costed: Evaluation, outcome: Outcome) -> Evaluation:
    status = "failed" if outcome.error is not None else "ruled out" if outcome.ruled_out else "ok"
    seconds = round(costed.seconds + outcome.seconds, 6)
    return replace(costed, score=outcome.score, status=status, error=outcome.error, seconds=seconds, at=utc_now())


def utc_now() -> str:
    """ISO 8601, to milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
