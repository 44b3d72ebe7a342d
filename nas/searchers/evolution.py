"""Evolution as in AutoFormer (Chen et al. 2021, section 3.4) and HAT (Wang et al. 2020, section 3.2).

A population drawn uniformly, then children of the best so far, half by mutation and half by crossover. Both papers
draw children until one keeps the budget, which never ends where none does. Here a child that breaks a budget is
replaced by the subnet nearest to it that keeps them all, found exactly: distance to the child is an `AdditiveTable`.
"""

from __future__ import annotations

from nas.ledger import Evaluation
from nas.searchers.base import Searcher
from search_spaces import AdditiveTable, Space, Subnet

__all__ = ["EvolutionSearcher"]

POPULATION = 50
MUTATION_RATE = 0.1
_SHAPE_WEIGHT = 4  # one step of embed dim or depth counts as this many steps of heads or ratio: all layers feel it
_TRIES = 10


class EvolutionSearcher(Searcher):
    """Parents are the best fifth of a population among all told so far, so a child may breed as soon as it is told.

    The population is 50, as AutoFormer's, and less where fewer than 200 evaluations are planned.
    """

    @property
    def population(self) -> int:
        return min(POPULATION, max(8, self.evals // 4))

    def ask(self, n: int) -> list[Subnet]:
        first = min(n, max(0, self.population - len(self.seen)))
        parents = self.objective.parents(self.told, max(2, self.population // 5))
        if not parents:
            return self.draw(n)
        subnets = self.draw(first)
        while len(subnets) < n:
            child = self._child(parents, mutate=len(self.seen) % 2 == 0)
            new = [child] if child else self.draw(1)
            if not new:
                break
            subnets += new
        return subnets

    def _child(self, parents: list[Evaluation], mutate: bool) -> Subnet | None:
        """A new subnet bred from `parents`, or None if a few tries gave only what was seen."""
        for _ in range(_TRIES):
            a, b = (parents[int(i)].subnet for i in self.rng.integers(len(parents), size=2))
            if mutate or a == b:
                child = self.space.mutate(a, self.rng, MUTATION_RATE)
            else:
                child = self.space.crossover(a, b, self.rng)
            if child in self.seen:
                continue
            child = self._repaired(child)
            if self.take(child):
                return child
        return None

    def _repaired(self, child: Subnet) -> Subnet:
        """`child`, or the subnet nearest to it that keeps the budgets."""
        if self.feasible.contains(child):
            return child
        return self.feasible.best(_distance(self.space, child), maximize=False)


def _distance(space: Space, child: Subnet) -> AdditiveTable:
    """Steps from `child`: of heads and FFN ratio in the layers both keep, of embed dim and depth weighted."""
    own = space.layers_of(child)
    embed_at, depth_at = space.embed_dims.index(child.embed_dim), space.depths.index(child.depth)

    def shape(embed_dim: int, depth: int) -> int:
        steps = abs(space.embed_dims.index(embed_dim) - embed_at) + abs(space.depths.index(depth) - depth_at)
        return _SHAPE_WEIGHT * steps

    def layer(embed_dim: int, heads: int, ratio: float, index: int, depth: int) -> int:
        if index not in own:
            return 0
        own_heads, own_ratio = own[index]
        of_heads, of_ratios = space.heads[index], space.ffn_ratios[index]
        steps = abs(of_heads.index(heads) - of_heads.index(own_heads))
        return steps + abs(of_ratios.index(ratio) - of_ratios.index(own_ratio))

    return AdditiveTable.build(space, "distance", "steps", shape, layer)
