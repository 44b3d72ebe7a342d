"""Other people's search methods, for `search_quality`: each yields subnets within the budget and is sent their scores.

They are written as their users write them, with one advantage: a proposal over the budget costs no evaluation. After
`PATIENCE` such proposals in a row a method ends: chance may meet a tight budget in a fine space less often.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import islice
from typing import Any

import numpy as np
import optuna

from search_spaces import AdditiveTable, Space, Subnet

__all__ = ["BASELINES"]

PATIENCE = 5_000
Walk = Generator[Subnet, float, None]


def uniform_draw(space: Space, rng: np.random.Generator) -> Subnet:
    """LightHuBERT's sampling: each choice uniform and independent, including depth, embed dim and front end."""
    kept = space.depth_map[space.depths[rng.integers(len(space.depths))]]
    layers = [space.choices[layer][rng.integers(len(space.choices[layer]))] for layer in kept]
    heads, ratios = zip(*layers, strict=True)
    front_end = space.front_ends[rng.integers(len(space.front_ends))]
    return Subnet(space.embed_dims[rng.integers(len(space.embed_dims))], heads, ratios, front_end)


def rejection(space: Space, table: AdditiveTable, limit: float, seed: int) -> Walk:
    """LightHuBERT-style random search: draw until a subnet is within the budget and new."""
    seen: set[Subnet] = set()
    for subnet in fitting(space, table, limit, seed):
        if subnet not in seen:
            seen.add(subnet)
            yield subnet


def fitting(space: Space, table: AdditiveTable, limit: float, seed: int) -> Iterator[Subnet]:
    """Draws within the budget, with repetitions."""
    rng, over = np.random.default_rng(seed), 0
    while over < PATIENCE:
        over += 1
        if table.of(subnet := uniform_draw(space, rng)) <= limit:
            over = 0
            yield subnet


def predictor(space: Space, table: AdditiveTable, limit: float, seed: int) -> Walk:
    """LINAS-like (Cummings et al. 2022): evolve on a predictor fitted to all evaluations, evaluate its best, repeat.

    Ridge regression on one-hot choices; each round takes the best 32 of 20 generations of 100; children over the budget
    are rejected.
    """
    rng = np.random.default_rng(seed)
    known: dict[Subnet, float] = {}
    draws = fitting(space, table, limit, seed)
    for subnet in draws:
        if subnet not in known:
            known[subnet] = yield subnet
        if len(known) == 32:
            break
    while known:
        predict = ridge(space, known)
        population = [*known, *islice(draws, 100)]
        for _ in range(20):
            order = np.argsort(-predict(population))[:50]
            parents = [population[i] for i in order]
            children = []
            while len(children) < 100:
                a, b = (parents[i] for i in rng.integers(len(parents), size=2))
                child = space.mutate(a, rng, 0.1) if rng.random() < 0.5 else space.crossover(a, b, rng)
                if table.of(child) <= limit:
                    children.append(child)
            population = list(dict.fromkeys([*parents, *children]))
        new = [population[i] for i in np.argsort(-predict(population)) if population[i] not in known][:32]
        new = new or [subnet for subnet in islice(draws, 32) if subnet not in known]
        if not new:
            return
        for subnet in dict.fromkeys(new):
            known[subnet] = yield subnet


def ridge(space: Space, known: dict[Subnet, float]) -> Any:
    def features(subnets: list[Subnet]) -> Any:
        vectors = np.array([space.encode(subnet) for subnet in subnets])
        per_layer = [len(c) for pair in zip(space.heads, space.ffn_ratios, strict=True) for c in pair]
        sizes = [len(space.embed_dims), len(space.depths), *per_layer, len(space.front_ends)][: space.vector_size]
        return np.concatenate([vectors[:, [i]] == np.arange(n) for i, n in enumerate(sizes)], axis=1).astype(float)

    x, y = features(list(known)), np.array(list(known.values()))
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (y - y.mean()))
    return lambda subnets: features(subnets) @ weights + y.mean()


def raw_optuna(sampler: Any) -> Any:
    """A constrained Optuna study: suggest, compute the cost, set the constraint, score if it fits."""

    def walk(space: Space, table: AdditiveTable, limit: float, seed: int) -> Walk:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(direction="maximize", sampler=sampler(seed))
        over = 0
        while over < PATIENCE:
            trial = study.ask()
            embed_dim = trial.suggest_categorical("embed_dim", space.embed_dims)
            kept = space.depth_map[trial.suggest_categorical("depth", space.depths)]
            heads = [trial.suggest_categorical(f"heads_{i}", space.heads[i]) for i in kept]
            ratios = [trial.suggest_categorical(f"ratio_{i}", space.ffn_ratios[i]) for i in kept]
            front_end = space.front_ends[trial.suggest_categorical("front_end", range(len(space.front_ends)))]
            subnet = Subnet(embed_dim, tuple(heads), tuple(ratios), front_end)
            trial.set_constraint("params", table.of(subnet) / limit - 1)
            over = over + 1 if table.of(subnet) > limit else 0
            study.tell(trial, -1e3 if over else (yield subnet))

    return walk


BASELINES = {
    "rejection sampling (LightHuBERT)": rejection,
    "LINAS-like predictor loop": predictor,
    "raw Optuna TPE": raw_optuna(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "raw Optuna TPE, univariate": raw_optuna(lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=False)),
    "raw Optuna NSGA-II": raw_optuna(lambda seed: optuna.samplers.NSGAIISampler(seed=seed)),
}
