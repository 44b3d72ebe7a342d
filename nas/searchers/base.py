"""What every searcher is: something that proposes subnets, and is told what they were worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from nas.ledger import Evaluation
from nas.objective import Objective
from search_spaces import Feasible, Subnet

__all__ = ["Searcher"]


class Searcher(ABC):
    """Proposes subnets that keep the budgets, each once.

    The story of a search: the loop makes the searcher once, with the set of subnets it may propose. Then, until the
    evaluations are spent, it calls `ask(n)`, has the proposals evaluated, and calls `tell` with the evaluations, in
    the order in which they were asked. Fewer than `n` proposals mean that few are left; none ends the search. The
    end of the last batch may never be told, and some evaluations may have failed: see `Evaluation.status`.

    A run is resumed by replaying it: the same calls, from the same seed, told from the ledger. So proposals may
    depend on nothing but what the searcher was made with and told; all chance comes from `rng`.

    `feasible` holds the space and the budgets that can be solved ahead; `objective` what is optimised; `evals` how
    many evaluations are planned (a run may be continued beyond them).
    """

    def __init__(self, feasible: Feasible, objective: Objective, rng: np.random.Generator, evals: int) -> None:
        self.feasible, self.objective, self.rng, self.evals = feasible, objective, rng, evals
        self.space = feasible.space
        self.told: list[Evaluation] = []
        self._proposed: set[Subnet] = set()

    def ask(self, n: int) -> list[Subnet]:
        """Up to `n` subnets that keep the budgets and were never returned before."""
        subnets: list[Subnet] = []
        while len(subnets) < n and (left := self.propose(n - len(subnets))):
            subnets += self._new(left)
        return subnets

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Takes in the evaluations of what was asked for, in that order."""
        self.told += evaluations

    @abstractmethod
    def propose(self, n: int) -> list[Subnet]: ...
