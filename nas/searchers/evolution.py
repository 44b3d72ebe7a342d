"""Evolution as in AutoFormer (Chen et al. 2021, section 3.4) and HAT (Wang et al. 2020, section 3.2).

A population drawn uniformly, then children of the best so far, half by mutation and half by crossover. Both papers
draw children until one keeps the budget, which never ends if none does. Here a child that breaks a budget is
replaced by the subnet nearest to it that keeps them all.
"""

from __future__ import annotations

from nas.runs.ledger import Evaluation
from nas.searchers.base import Searcher
from search_spaces import Subnet

__all__ = ["EvolutionSearcher", "population"]

POPULATION = 50
MUTATION_RATE = 0.1
_TRIES = 10


def population(evals: int) -> int:
    """50, as AutoFormer's, and less if fewer than 200 evaluations are planned."""
    return min(POPULATION, max(8, evals // 4))


class EvolutionSearcher(Searcher):
    """Parents are the best fifth of a population among all evaluations so far, so a child may breed at once."""

    @property
    def parents(self) -> int:
        """How many may breed."""
        return max(2, population(self.evals) // 5)

    def ask(self, n: int) -> list[Subnet]:
        first = min(n, max(0, population(self.evals) - len(self.seen)))
        parents = self.objective.parents(self.told, self.parents)
        if not parents:
            return self.draw(n)
        subnets = self.draw(first)
        while len(subnets) < n:
            child = self._child(parents)
            new = [child] if child else self.draw(1)
            if not new:
                break
            subnets += new
        return subnets

    def breed(self, parents: list[Evaluation]) -> Subnet:
        """A child of `parents`, which come best first. It may break a budget, or have been seen."""
        a, b = (parents[int(i)].subnet for i in self.rng.integers(len(parents), size=2))
        if len(self.seen) % 2 == 0 or a == b:
            return self.space.mutate(a, self.rng, MUTATION_RATE)
        return self.space.crossover(a, b, self.rng)

    def _child(self, parents: list[Evaluation]) -> Subnet | None:
        """A new subnet bred from `parents`, or None if a few tries gave only subnets that were seen."""
        for _ in range(_TRIES):
            child = self.breed(parents)
            if child in self.seen:
                continue
            child = self.repair(child)
            if self.take(child):
                return child
        return None
