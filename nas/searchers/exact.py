"""Active search with a score model that is solved exactly.

1. A design: of subnets drawn under the budgets, those of which the model is most uncertain, each after the ones before
   and after what is known (uniform subnets: `nas.uniform`). So every choice of every layer is evaluated early.
2. The model's best subnet of each embed dim and depth, twice: a width or depth that few subnets under the budgets have
   may hold the best of them.
3. Then, batch by batch, the subnets of which most improvement is expected, each given the ones before. Candidates are
   the model's best, the best of scores drawn from its posterior, and the neighbours of the best known. All granted
   evaluations are spent.
Each best is the optimum over ALL subnets that keep the budgets, by dynamic programming. With a cost to minimise beside
the score, half of the subnets are taken from the exact front of the model and half from those of draws, those first
that add most to the hypervolume of what is known; 2 is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice

import numpy as np
import numpy.typing as npt

from nas import pareto
from nas.runs.ledger import Evaluation
from nas.score_model import ChoiceFeatures, ScoreModel
from nas.searchers.base import Searcher
from nas.searchers.improvement import most_improving, neighbours
from nas.warp import Warp
from search_spaces import AdditiveTable, Feasible, Subnet
from search_spaces.design import most_uncertain

__all__ = ["ExactSearcher"]

DESIGN = 16
_POOL = 512
_KNOWN_NOISE = 0.01  # more subnets may be known beforehand than there are features: without noise, nothing is left
_SHAPE_ROUNDS = 2
MIN_BATCH = 8
MAX_CANDIDATES = 128
MAX_FRONT_POINTS = 512
_DRAWS, _DRAWS_OF_LARGE, _FRONT_DRAWS = 16, 12, 4
MAX_MOVES = 1 << 19
_RANKED, _INCUMBENTS = 32, 3
_CANDIDATES = 256
_REFIT = 1.02  # the model is fitted again when the evaluations have grown by this factor,
_REFIT_VARIANCES = 1.2  # and its variances are estimated again


class _Ranked:
    """The best subnets of a table, computed lazily and kept."""

    def __init__(self, feasible: Feasible, table: AdditiveTable) -> None:
        self.table = table
        self._known: list[Subnet] = []
        self._more = islice(feasible.ranked(table), MAX_CANDIDATES)

    def __iter__(self) -> Iterator[Subnet]:
        yield from self._known
        for subnet in self._more:
            self._known.append(subnet)
            yield subnet


class ExactSearcher(Searcher):
    """See the module. Proposes fewer than asked for while little is known, to learn from them first.

    Optima are found in a coarser trellis if the exact one is large; neighbours of the best then use up what is left of
    the budgets.
    """

    _model: ScoreModel | None = None
    _model_of, _variances_of = 0, 0
    _shape_rounds = 0
    _design_noise = 0.0

    def ask(self, n: int) -> list[Subnet]:
        if self._design and (subnets := self._taken(self._design, n)):
            return subnets
        model = self._fitted()
        if model is None:
            return self.draw(n)
        n = min(n, max(MIN_BATCH, len(self.seen) // 4))
        best = _Ranked(self._quick, model.table())
        if self.objective.cost is not None:
            return self._of_fronts(model, best, n)
        if self._shape_rounds < _SHAPE_ROUNDS:
            self._shape_rounds += 1
            if subnets := self._first_new(self._quick.best_of_each_shape(best.table), n):
                return subnets
        return self._of_score(model, best, n)

    def _of_score(self, model: ScoreModel, best: _Ranked, n: int) -> list[Subnet]:
        """The candidates that promise most."""
        count = _DRAWS if self._quick is self.feasible else _DRAWS_OF_LARGE
        draws = [_Ranked(self._quick, model.draw(self.rng)) for _ in range(count)]
        worth = np.array([self.objective.worth(each) for each in self._within or self._known])
        goal = float(model.warp(worth.max() if self._within else worth.min()))
        vectors = self._candidates(best, draws)
        if len(vectors) > _CANDIDATES:
            vectors = vectors[np.argsort(-best.table.of_vectors(vectors), kind="stable")[:_CANDIDATES]]
        rows = most_improving(model, vectors, goal, n)[0] if len(vectors) else ()
        subnets = self._first_new((self.space.decode(vectors[row]) for row in rows), n)
        subnets += self._first_new(best, n - len(subnets))
        return subnets + self.draw(n - len(subnets))

    def _candidates(self, best: _Ranked, draws: Sequence[_Ranked]) -> npt.NDArray[np.int64]:
        """Vectors of new subnets: the model's best, the best of each draw, and the neighbours of the best known."""
        found = [*islice(best, _RANKED), *(subnet for draw in draws for subnet in islice(draw, 2))]
        rows = [np.array([self.space.encode(subnet) for subnet in found])]
        for evaluation in sorted(self._within, key=self.objective.worth, reverse=True)[:_INCUMBENTS]:
            near = neighbours(self.space, self.space.encode(evaluation.subnet))
            rows.append(near[self.feasible.keeps(near)])
        self._rows |= {subnet: self.space.encode(subnet).tobytes() for subnet in self.seen - self._rows.keys()}
        seen = set(self._rows.values())
        new = {key: row for row in np.concatenate(rows) if (key := row.tobytes()) not in seen}
        return np.array(list(new.values()))

    def _of_fronts(self, model: ScoreModel, best: _Ranked, n: int) -> list[Subnet]:
        """Half from the model's front and half from those of draws; the last batch is of the model's alone."""
        draws = [_Ranked(self._quick, model.draw(self.rng)) for _ in range(_FRONT_DRAWS)]
        last, cost = len(self.seen) + n >= self.evals, self._cost()
        subnets = self._optima(best, cost, model.warp, n if last else n // 2)
        for i, draw in enumerate(draws):
            if missing := n - len(subnets):
                subnets += self._optima(draw, cost, model.warp, -(-missing // (len(draws) - i)))
        return subnets + self.draw(n - len(subnets))

    @cached_property
    def _rows(self) -> dict[Subnet, bytes]:
        """The vectors of the subnets that were seen, as far as they were needed."""
        return {}

    @cached_property
    def _quick(self) -> Feasible:
        return self.feasible.coarser(MAX_MOVES)

    def start_from(self, known: Sequence[Evaluation]) -> None:
        """The model also learns from subnets over the budgets."""
        super().start_from(known)
        self._design_noise = _KNOWN_NOISE if known else 0.0
        self.told += [evaluation for evaluation in known if not self.feasible.contains(evaluation.subnet)]
        self._over |= {evaluation.subnet for evaluation in known if not evaluation.ok}

    @cached_property
    def _over(self) -> set[Subnet]:
        """Known subnets that cannot be the best: over the budgets, or ruled out."""
        return set()

    @property
    def _known(self) -> list[Evaluation]:
        """The scored evaluations, in the order of `tell`."""
        return [evaluation for evaluation in self.told if evaluation.scored]

    @property
    def _within(self) -> list[Evaluation]:
        """Those of subnets that can be the best."""
        return [evaluation for evaluation in self._known if evaluation.subnet not in self._over]

    @cached_property
    def _vectors(self) -> list[npt.NDArray[np.int64]]:
        """Vectors of the scored evaluations, as far as a model was fitted to them."""
        return []

    @cached_property
    def features(self) -> ChoiceFeatures:
        return ChoiceFeatures(self.space)

    @cached_property
    def _design(self) -> list[Subnet]:
        """The rest of the design: those of a pool that say most beside what is known; none if much is known.

        Those that are known come first.
        """
        known = sorted({*self.seen, *self._over}, key=Subnet.to_json)
        if len(known) >= _POOL:
            return []
        pool = list(dict.fromkeys([*known, *self.feasible.sample(self.rng, _POOL, balanced=True)]))
        x = self.features(np.array([self.space.encode(subnet) for subnet in pool]))
        wanted = max(len(known) + DESIGN // 2, min(DESIGN, max(4, self.evals // 3)))
        chosen = most_uncertain(x, min(wanted, len(pool)), range(len(known)), self._design_noise)
        return [pool[i] for i in chosen[len(known) :]]

    def _taken(self, subnets: list[Subnet], n: int) -> list[Subnet]:
        taken = [subnet for subnet in subnets[:n] if self.take(subnet)]
        del subnets[:n]
        return taken

    def _fitted(self) -> ScoreModel | None:
        """The model of the evaluations so far, or of nearly all of them if they are many."""
        known = self._known
        if len(known) < 2:
            return None
        if self._model is None or len(known) >= _REFIT * self._model_of:
            self._vectors += [self.space.encode(evaluation.subnet) for evaluation in known[len(self._vectors) :]]
            vectors = np.array(self._vectors)
            scores = np.array([self.objective.worth(evaluation) for evaluation in known])
            refit = len(known) >= _REFIT_VARIANCES * self._variances_of
            self._model = ScoreModel(self.features, vectors, scores, self._model, refit)
            self._model_of = len(known)
            self._variances_of = len(known) if refit else self._variances_of
        return self._model

    def _optima(self, ranked: _Ranked, cost: AdditiveTable, warp: Warp, n: int) -> list[Subnet]:
        """Up to `n` new subnets of the table's front, those that add most hypervolume."""
        table = ranked.table
        points = [point for point in self._quick.front(cost, table) if point.subnet not in self.seen]
        if not points:
            return []
        points = [points[i] for i in np.unique(np.linspace(0, len(points) - 1, MAX_FRONT_POINTS).astype(int))]
        known = self._within
        waiting = list(self.seen - {evaluation.subnet for evaluation in self.told})
        costs = [float(e.costs[str(self.objective.cost)]) for e in known] + [float(cost.of(s)) for s in waiting]
        worth = [self.objective.worth(e) for e in known]
        worth += warp.back(np.array([float(table.of(s)) for s in waiting])).tolist()
        scores = warp.back(np.array([p.score for p in points], dtype=float))
        of_points = np.array([p.cost for p in points], dtype=float), scores
        reference = max([*costs, *of_points[0]]), min([*worth, *of_points[1]])
        chosen = pareto.most_gaining(of_points, (np.array(costs), np.array(worth)), reference, n)
        offset = self.rng.random()
        spread = [int((i + offset) * len(points) / n) for i in range(n)]
        return self._first_new((points[i].subnet for i in [*chosen, *spread]), n)

    def _cost(self) -> AdditiveTable:
        """The objective's cost; if it can only be measured, a model of it without terms of neighbours."""
        if self.objective.table is not None:
            return self.objective.table
        known = self._known
        vectors = np.array([self.space.encode(evaluation.subnet) for evaluation in known])
        costs = np.array([float(evaluation.costs[str(self.objective.cost)]) for evaluation in known])
        return ScoreModel(self.features, vectors, costs, warp=Warp()).table().without_pairs()

    def _first_new(self, subnets: Iterable[Subnet], n: int) -> list[Subnet]:
        return list(islice((subnet for subnet in subnets if self.take(subnet)), n))
