"""The base class of searchers, which propose subnets and learn from their evaluations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from nas.objective import Objective
from nas.runs.ledger import Evaluation
from nas.searchers.repair import repaired
from search_spaces import Feasible, Subnet

__all__ = ["Searcher"]

MAX_DRAWS = 4096


class Searcher(ABC):
    """Proposes subnets that keep the budgets, each once.

    Call order: the loop makes the searcher once, with the set of subnets it may propose, and gives it what is known
    beforehand (`start_from`). Then, until the evaluations are spent, it calls `ask(n)`, has the proposals evaluated,
    and calls `tell` with the evaluations, in the order in which they were asked for. A searcher may propose fewer than
    `n`, to learn from them first or because few are left; an empty list ends the search. `tell` may not be called for
    the end of the last batch, and some evaluations may have failed: see `Evaluation.status`.

    A run is resumed by replaying it: the same calls, from the same seed, with evaluations from the ledger. So proposals
    may depend only on the arguments of the constructor and of `tell`; all randomness comes from `rng`.

    `feasible` holds the space and the budgets that can be solved ahead; `objective` the objective; `evals` the number
    of planned evaluations (a run may be continued beyond them).
    """

    def __init__(self, feasible: Feasible, objective: Objective, rng: np.random.Generator, evals: int) -> None:
        self.feasible, self.objective, self.rng, self.evals = feasible, objective, rng, evals
        self.space = feasible.space
        self.told: list[Evaluation] = []
        self.seen: set[Subnet] = set()
        self.repeated, self.repaired = 0, 0

    @abstractmethod
    def ask(self, n: int) -> list[Subnet]:
        """Up to `n` subnets that keep the budgets and were never returned before."""

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Receives the evaluations of proposals, in the order in which they were asked for."""
        self.told += evaluations

    def start_from(self, known: Sequence[Evaluation]) -> None:
        """Receives what is known before the first `ask`, which is not proposed again.

        Subnets over the budgets are passed over here.
        """
        within = [evaluation for evaluation in known if self.feasible.contains(evaluation.subnet)]
        for evaluation in within:
            self.take(evaluation.subnet)
        self.tell(within)

    def draw(self, n: int) -> list[Subnet]:
        """Up to `n` new subnets, uniformly from those that keep the budgets and were not seen.

        Subnets that were seen before are drawn again: the number that fit is known exactly, so this terminates.
        """
        subnets: list[Subnet] = []
        total, size = self.feasible.count(), n
        while len(subnets) < n and len(self.seen) < total:
            for subnet in self.feasible.sample(self.rng, size):
                if len(subnets) < n and self.take(subnet):
                    subnets.append(subnet)
            size = min(2 * size, MAX_DRAWS)
        return subnets

    def take(self, subnet: Subnet) -> bool:
        """Whether `subnet` is new; from now on it is not. `repeated` counts those that were not."""
        if subnet in self.seen:
            self.repeated += 1
            return False
        self.seen.add(subnet)
        return True

    def repair(self, subnet: Subnet) -> Subnet:
        """`subnet`, or the nearest that keeps the budgets. `repaired` counts those that did not."""
        nearest = repaired(self.feasible, subnet)
        self.repaired += nearest != subnet
        return nearest
