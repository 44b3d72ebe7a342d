"""NSGA-II (Deb, Pratap, Agarwal and Meyarivan 2002), of the score and the cost.

Survivors are the best of all evaluations so far by non-dominated rank, then crowding distance (section III.C: the
elitist choice from parents and children), so that a child may breed as soon as it is evaluated and batches need not be
generations. With the score alone as objective, the best are by score. Budgets are kept by repair, not by III.D's
constrained domination, which spends evaluations on infeasible subnets.
"""

from __future__ import annotations

from nas.runs.ledger import Evaluation
from nas.searchers.evolution import EvolutionSearcher, population
from search_spaces import Subnet

__all__ = ["Nsga2Searcher"]

CROSSOVER_RATE = 0.9


class Nsga2Searcher(EvolutionSearcher):
    """Evolution whose parents are a whole population, and win binary tournaments to breed."""

    @property
    def parents(self) -> int:
        return population(self.evals)

    def breed(self, parents: list[Evaluation]) -> Subnet:
        """Uniform crossover of two winners, then mutation of one choice in the mean (section IV: 1 / variables)."""
        a, b = self._winner(parents), self._winner(parents)
        child = self.space.crossover(a, b, self.rng) if self.rng.random() < CROSSOVER_RATE else a
        return self.space.mutate(child, self.rng, 1 / (2 + 2 * child.depth))

    def _winner(self, parents: list[Evaluation]) -> Subnet:
        """The better of two drawn parents: the earlier, since the best come first."""
        return parents[int(self.rng.integers(len(parents), size=2).min())].subnet
