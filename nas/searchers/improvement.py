"""Which of many candidates to evaluate together: greedy expected improvement under a score model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from nas.score_model import Posterior, ScoreModel
from search_spaces import Space
from search_spaces.types import Array

__all__ = ["expected_improvement", "most_improving", "neighbours"]

MAX_JOINTLY = 192
_LAYERS = 2  # the offset of layers in the vectors of `Space.encode`, after embed dim and depth
_FEW = 16


def most_improving(model: ScoreModel, vectors: Array, best: float, n: int) -> tuple[Array, float]:
    """The rows of up to `n` of the candidates `vectors`, first those that promise most, and what the first promises.

    After each choice the others' uncertainty shrinks as if it had been evaluated, and had scored what the model
    expects (the kriging believer: Ginsbourger, Le Riche and Carraro 2010). So they differ where the model is unsure.
    """
    posterior, noise = model.posterior(vectors), model.noise**2
    alone = expected_improvement(posterior, best, model.noise)
    rows = np.argsort(-alone, kind="stable")[: max(MAX_JOINTLY, 2 * n)]
    posterior = posterior.of(rows)
    covariance, means = posterior.covariance(), posterior.means
    free, chosen = np.ones(len(rows), dtype=bool), []
    for _ in range(min(n, len(rows))):
        gains = _improvement(means - best, np.sqrt(np.maximum(np.diag(covariance), 0.0) + noise))
        j = int(np.where(free, gains, -1.0).argmax())
        chosen.append(j)
        free[j] = False
        column = covariance[:, j].copy()
        covariance -= np.outer(column, column) / (column[j] + noise)
    return rows[chosen], float(alone.max(initial=0.0))


def expected_improvement(posterior: Posterior, best: float, noise: float) -> Array:
    """(N,) of how much each is expected to score over `best`, counting 0 if it does not (Mockus 1978)."""
    return _improvement(posterior.means - best, np.sqrt(posterior.variances + noise**2))


def _improvement(gain: Array, std: Array) -> Array:
    z = gain / std
    return gain * _normal_cdf(z) + std * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)  # type: ignore[no-any-return]


def _normal_cdf(z: Array) -> Array:
    """Of the standard normal distribution; absolute error below 8e-8 (Abramowitz and Stegun 1964, 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(z))
    series = np.polynomial.polynomial.polyval(t, [0, 0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429])
    upper: Array = series * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return np.where(z > 0, 1 - upper, upper)


def neighbours(space: Space, vector: Array) -> Array:
    """(N, entries): the subnets with another choice in one entry of the chain, or in two next to each other.

    Where choices are many, one entry changes by two steps at most, and two by one.
    """
    chain = space.chains[vector[1]]
    choices = {entry: _choices(space, entry) for entry in chain}
    near = {entry: _near(vector, entry, own, 1) for entry, own in choices.items()}
    changed = [_changed(vector, entry, _near(vector, entry, choices[entry], 2))[None] for entry in chain]
    changed += [
        np.stack([_changed(row, b, near[b]) for row in _changed(vector, a, near[a])]) for a, b in pairwise(chain)
    ]
    return np.unique(np.concatenate([each.reshape(-1, len(vector)) for each in changed]), axis=0)


def _near(vector: Array, entry: int, choices: Array, steps: int) -> Array:
    """All choices of an entry if they are few, else those within so many steps of its own."""
    if len(choices) <= _FEW:
        return choices
    own = vector[_LAYERS + 2 * entry : _LAYERS + 2 * entry + 2]
    near: Array = choices[(np.abs(choices - own) <= steps).all(1)]
    return near


def _choices(space: Space, layer: int) -> Array:
    """(C, 2): the indices of heads and FFN ratio."""
    return np.stack([each.reshape(-1) for each in np.indices(space.sizes[layer])], axis=1)


def _changed(vector: Array, layer: int, choices: Array) -> Array:
    """(C, entries): `vector` with each choice in the layer."""
    rows = np.repeat(vector[None], len(choices), axis=0)
    rows[:, _LAYERS + 2 * layer : _LAYERS + 2 * layer + 2] = choices
    return rows
