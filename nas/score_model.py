"""The score as a sum over layers, learned from evaluations; its optimum over a whole space is exact.

    warp(score(subnet)) = mean + sum over blocks b of w_b . features_b(subnet) + noise,    w_b ~ N(0, v_b I)

Every feature belongs to (embed dim, depth), to one layer's choice, or to the choices of two neighbouring kept layers.
So whatever the weights, the warped score is a `ChainTable`, and dynamic programming finds the best of all subnets: the
warp (`nas.warp`) keeps the order. Its width is the likeliest of a few (Snelson et al. 2004).

The blocks go from coarse to fine: all layers alike, each layer on a slope, each choice on its own, neighbours. Each has
a variance of its own, estimated by maximum likelihood (the MM algorithm for variance components: Zhou et al. 2019,
eq. 6), so that detail enters only as far as the data support it. Two rules keep the estimate from deciding too early:
the level is free (a search evaluates good subnets, whose mean is far from that of the space), and each estimate starts
again from at least `MIN_START`, since the updates multiply, and a block at 0 would stay there whatever is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from nas.warp import Warp
from search_spaces import ChainTable, Space
from search_spaces.types import Array

__all__ = ["ChoiceFeatures", "Posterior", "ScoreModel"]


_MM_STEPS, _MM_STEPS_OF_WARP = 40, 10
_WIDTHS = [float("inf"), *(2.0**-i for i in range(-3, 6))]  # in standard deviations of the scores
MAX_FOR_VARIANCES = 256
MAX_CELLS = 2000
MAX_LINKED = 144  # choices of a layer times those of the next: more of them make links slow to optimise over
MIN_NOISE = 1e-6
MIN_START = 0.02
LEVEL_VARIANCE = 10.0
_HALF_CHI_SQUARED = 1.92
_TRIED_VARIANCES = [float(v) for v in np.geomspace(1e-4, 1.0, 129)]
_NEGLIGIBLE = 1e-3


class _Part(NamedTuple):
    """Features at columns `start`... of a block: of the shape (E, P, J), a layer (E, P, C, J) or a pair (C, C', J)."""

    start: int
    of: int | tuple[int, int] | None
    values: Array


class ChoiceFeatures:
    """All features of a space, in blocks, each centred and scaled so that v_b is its share of the score's variance."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.blocks = _blocks(space)
        self.sizes = [max(part.start + part.values.shape[-1] for part in block) for block in self.blocks.values()]
        ends = np.cumsum(self.sizes).tolist()
        self.slices = dict(zip(self.blocks, map(slice, [0, *ends], ends)))
        rng = np.random.default_rng(0)
        raw = self._raw(np.array([space.encode(space.sample(rng)) for _ in range(400)]))
        spreads = [float(np.sqrt(raw[:, at].var(0).sum())) for at in self.slices.values()]
        self._scales = np.repeat([1 / spread if spread > 1e-9 else 0.0 for spread in spreads], self.sizes)
        self._means = raw.mean(0)
        level = self.slices["level"]  # evaluations are not uniform draws, so their mean is a feature as well
        self._means[level], self._scales[level] = 0.0, 1.0

    def __call__(self, vectors: Array) -> Array:
        """(N, J) of N subnets, given as rows of `Space.encode`."""
        scaled: Array = (self._raw(vectors) - self._means) * self._scales
        return scaled

    def table(self, weights: Array, constant: float) -> ChainTable:
        """`constant` + features . weights of every subnet; without pairs where their weights are 0."""
        space, w = self.space, weights * self._scales
        shape = np.full((len(space.embed_dims), len(space.depths)), constant - float(self._means @ w))
        layers = [np.zeros((*shape.shape, len(choices))) for choices in space.choices]
        pairs: dict[tuple[int, int], Array] = {}
        for name, block in self.blocks.items():
            own = w[self.slices[name]]
            for start, of, values in block if own.any() else ():
                terms = values @ own[start : start + values.shape[-1]]
                if of is None:
                    shape += terms
                elif isinstance(of, int):
                    layers[of] += terms
                else:
                    pairs[of] = pairs.get(of, 0.0) + terms
        return ChainTable(space, "score model", "score", shape, tuple(layers), pairs)

    def _raw(self, vectors: Array) -> Array:
        space = self.space
        total = np.zeros((len(vectors), sum(self.sizes)))
        e, p = vectors[:, 0], vectors[:, 1]
        chosen = space.chosen(vectors).T
        rows_of = _rows(space, p)
        for name, block in self.blocks.items():
            out = total[:, self.slices[name]]
            for start, of, values in block:
                rows, at = rows_of[of], slice(start, start + values.shape[-1])
                if of is None:
                    out[:, at] += values[e, p]
                elif isinstance(of, int):
                    out[rows, at] += values[e[rows], p[rows], chosen[of][rows]]
                else:
                    out[rows, at] += values[chosen[of[0]][rows], chosen[of[1]][rows]]
        return total


def _rows(space: Space, p: Array) -> dict[Any, Array]:
    """The rows, given their depths' indices, that have the layer or pair of a part."""
    has: dict[Any, Array] = {None: np.arange(len(p))}
    for chain in space.chains:
        for of in (*chain, *pairwise(chain)):
            has[of] = np.array([of in (*c, *pairwise(c)) for c in space.chains])
    return {of: at if of is None else np.flatnonzero(at[p]) for of, at in has.items()}


def _blocks(space: Space) -> dict[str, list[_Part]]:
    E, P = len(space.embed_dims), len(space.depths)
    entries = sorted({entry for chain in space.chains for entry in chain})
    kept = [entry for entry in entries if entry < space.network.num_layers]
    beside = sorted({pair for chain in space.chains for pair in pairwise(chain)})
    wide = np.linspace(-1, 1, E) if E > 1 else np.zeros(1)
    deep = np.linspace(-1, 1, P) if P > 1 else np.zeros(1)
    slopes = {entry: _slopes(space, entry) for entry in entries}
    alike = [_Part(0, layer, np.broadcast_to(slopes[layer], (E, P, *slopes[layer].shape))) for layer in kept]
    each = _apart((entry, np.broadcast_to(own[:, :2], (E, P, len(own), 2))) for entry, own in slopes.items())
    one_hot = ((i, np.broadcast_to(np.eye(len(c)), (E, P, len(c), len(c)))) for i, c in enumerate(space.choices))
    lines = {layer: values[:, :2] for layer, values in slopes.items()}
    sizes = {(a, b): (len(slopes[a]), len(slopes[b])) for a, b in beside}
    products = ((ab, np.einsum("ci,dj->cdij", lines[ab[0]], lines[ab[1]]).reshape(*n, 4)) for ab, n in sizes.items())
    cells = ((ab, np.eye(n[0] * n[1]).reshape(*n, -1)) for ab, n in sizes.items())
    shape = [
        np.broadcast_to(np.eye(E)[:, None], (E, P, E)),
        np.broadcast_to(np.eye(P)[None], (E, P, P)),
        np.eye(E * P).reshape(E, P, E * P),
        np.broadcast_to(wide[:, None, None], (E, P, 1)),
    ]
    blocks = {
        "level": [_Part(0, None, np.ones((E, P, 1)))],
        "shape": _apart((None, values) for values in shape),
        "all layers": alike,
        "all layers by width": _times(alike, wide[:, None]),
        "all layers by depth": _times(alike, deep[None]),
        "each layer": each,
        "each layer by width": _times(each, wide[:, None]),
        "each choice": _apart((i, values) for i, values in one_hot if i in slopes),
    }
    if all(a * b <= MAX_LINKED for a, b in sizes.values()):
        blocks["neighbours"] = _apart(products)
    if sum(n[0] * n[1] for n in sizes.values()) <= MAX_CELLS:
        blocks["pairs of choices"] = _apart(cells)
    return {name: block for name, block in blocks.items() if block}


def _slopes(space: Space, layer: int) -> Array:
    """(C, 5): heads and FFN ratio on a line from -1 to 1, their product and their squares."""
    counts = space.sizes[layer]
    h, r = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in counts)
    u, v = (grid.reshape(-1) for grid in np.meshgrid(h, r, indexing="ij"))
    return np.stack([u, v, u * v, u * u, v * v], axis=1)


def _apart(parts: Iterable[tuple[Any, Array]]) -> list[_Part]:
    """Parts with their columns side by side."""
    block: list[_Part] = []
    start = 0
    for of, values in parts:
        block.append(_Part(start, of, values))
        start += values.shape[-1]
    return block


def _times(block: list[_Part], factor: Array) -> list[_Part]:
    return [part._replace(values=part.values * factor[:, :, None, None]) for part in block]


class Posterior(NamedTuple):
    """Means (N,) of the warped scores of N subnets, and their covariance: wide @ wide.T - known @ known.T."""

    means: Array
    wide: Array
    known: Array

    @property
    def variances(self) -> Array:
        """(N,)"""
        return np.maximum((self.wide**2).sum(1) - (self.known**2).sum(1), 0.0)  # type: ignore[no-any-return]

    def covariance(self) -> Array:
        """(N, N)"""
        return self.wide @ self.wide.T - self.known @ self.known.T  # type: ignore[no-any-return]

    def of(self, rows: Array) -> Posterior:
        """That of some of the subnets."""
        return Posterior(self.means[rows], self.wide[rows], self.known[rows])


class ScoreModel:
    """The posterior of the score after N evaluations: its mean, and draws from it.

    `vectors` (N, entries) are rows of `Space.encode`, `scores` (N,) finite, greater is better. An earlier model `start`
    is where the estimates of variances and warp begin; without `refit` its own are kept. `warp`, if given, is used.
    """

    def __init__(
        self,
        features: ChoiceFeatures,
        vectors: Array,
        scores: Array,
        start: ScoreModel | None = None,
        refit: bool = True,
        warp: Warp | None = None,
    ) -> None:
        self.features = features
        self._features = features(vectors)
        share = 1 / len(features.blocks)
        variances = start.variances if start else {**dict.fromkeys(features.blocks, share), "noise": 0.05}
        self.variances: dict[str, float] = dict(variances)
        self._width_at: int = start._width_at if start else 0
        if refit:
            warp = warp or self._likeliest_warp(scores)
        self._scale(scores, warp or (start.warp if start else Warp()))
        if refit:
            self._find_variances(_MM_STEPS)
        self._solve()

    def _scale(self, scores: Array, warp: Warp) -> None:
        self.warp, warped = warp, warp(scores)
        self._mean, self._std = float(warped.mean()), float(warped.std()) or 1.0
        self._y = (warped - self._mean) / self._std

    def _likeliest_warp(self, scores: Array) -> Warp:
        """Climbs from the width of the model before, as long as the likelihood of the scores grows."""
        best, spread, before = float(scores.max()), float(scores.std()), self.variances
        if not spread:
            return Warp()
        tried: dict[int, float] = {}

        def likelihood(i: int) -> float:
            if i not in tried:
                warp, self.variances = Warp(best, spread * _WIDTHS[i]), dict(before)
                self._scale(scores, warp)
                self._find_variances(_MM_STEPS_OF_WARP)
                own = self._likelihood(self._covariance(self.variances)) / len(self._rows)
                tried[i] = own - np.log(self._std) + warp.log_slope(scores) / len(scores)
            return tried[i]

        at = self._width_at
        for step in (1, -1):
            while 0 <= at + step < len(_WIDTHS) and likelihood(at + step) > likelihood(at):
                at += step
        self._width_at, self.variances = at, before
        return Warp(best, spread * _WIDTHS[at])

    def table(self) -> ChainTable:
        """The expected warped score of every subnet."""
        return self.features.table(self._std * self._weights, self._mean)

    def draw(self, rng: np.random.Generator, spread: float = 1.0) -> ChainTable:
        """A draw from the posterior of the warped score (Thompson sampling), `spread` times as far from its mean."""
        weights = self._weights + spread * (self._drawn(rng) - self._weights)
        return self.features.table(self._std * weights, self._mean)

    def predict(self, vectors: Array) -> Array:
        """The expected scores (N,): those of the expected warped ones."""
        return self.warp.back(self._mean + self._std * (self.features(vectors) @ self._weights))

    def posterior(self, vectors: Array) -> Posterior:
        """What is known of the warped scores of N subnets together."""
        x, none = self.features(vectors)[:, self._used], np.zeros((len(vectors), 0))
        scale = self._std if self._dual else self._std * np.sqrt(self.variances["noise"])
        wide = scale * (x * np.sqrt(self._prior) if self._dual else x @ self._root)
        known = scale * (x * self._prior) @ self._x.T @ self._root if self._dual else none
        return Posterior(self._mean + self._std * (x @ self._weights[self._used]), wide, known)

    def surprise(self, rows: Array) -> float:
        """Root mean square of the errors at these evaluations, each predicted from all others, in standard deviations.

        1 if the model is as good as it takes itself to be, more if it is too sure of itself.
        """
        if self._dual:
            inverse = self._root @ self._root.T
        else:  # Woodbury's identity
            noise = self.variances["noise"]
            half = self._x @ self._root
            inverse = (np.eye(len(self._y)) - half @ half.T) / noise
        errors = (inverse @ self._y)[rows] / np.sqrt(np.maximum(np.diag(inverse)[rows], 1e-12))
        return float(np.sqrt((errors**2).mean()))

    @property
    def noise(self) -> float:
        """Standard deviation of the part that the features cannot explain, in units of the warped score."""
        return self._std * float(np.sqrt(self.variances["noise"]))

    def cautious(self) -> ScoreModel:
        """This model with the greatest variance of its finest block that the evaluations do not rule out.

        The block may explain nothing only because its effects were not met yet. Its variance is raised until the
        likelihood falls by half the 95 % quantile of chi-squared with 1 degree of freedom (profile likelihood).
        """
        finest = list(self.features.blocks)[-1]
        tried = [self.variances[finest], *_TRIED_VARIANCES]
        others = self._covariance({**self.variances, finest: 0.0})
        likelihoods = [self._likelihood(others + v * self._grams[finest]) for v in tried]
        least = max(likelihoods) - _HALF_CHI_SQUARED
        greatest = max(v for v, likelihood in zip(tried, likelihoods, strict=True) if likelihood >= least)
        other = copy(self)
        other.variances = {**self.variances, finest: greatest}
        other._solve()
        return other

    def _covariance(self, variances: dict[str, float]) -> Array:
        """That of the warped scores of `_rows`."""
        return np.asarray(sum(variances[name] * gram for name, gram in self._grams.items()))

    def _likelihood(self, covariance: Array) -> float:
        """The logarithm of that of the warped scores, up to a constant."""
        root = np.linalg.cholesky(covariance)
        fitted = np.linalg.solve(root, self._y[self._rows])
        return -0.5 * float(np.square(fitted).sum()) - float(np.log(np.diag(root)).sum())

    @cached_property
    def _rows(self) -> Array:
        """Evenly spaced evaluations if they are many: variances and likelihoods are those of these."""
        return np.unique(np.linspace(0, len(self._features) - 1, MAX_FOR_VARIANCES).round().astype(int))

    @cached_property
    def _grams(self) -> dict[str, Array]:
        """By block, the products of their features."""
        x = self._features[self._rows]
        grams = {name: x[:, at] @ x[:, at].T for name, at in self.features.slices.items()}
        return {**grams, "noise": np.eye(len(x))}

    def _find_variances(self, steps: int) -> None:
        """MM updates."""
        y, v = self._y[self._rows], self.variances
        for name in v:
            v[name] = LEVEL_VARIANCE if name == "level" else max(v[name], MIN_START)
        for _ in range(steps):
            inverse = np.linalg.inv(self._covariance(v))
            a = inverse @ y
            for name, gram in self._grams.items():
                if name == "level":
                    continue
                trace = float(np.vdot(inverse, gram))
                v[name] *= float(np.sqrt(max(float(a @ gram @ a), 0.0) / trace)) if trace > 1e-12 else 0.0
            v["noise"] = max(v["noise"], MIN_NOISE)
        for name in ("neighbours", "pairs of choices"):
            if v.get(name, 0.0) < _NEGLIGIBLE:  # tables without pairs are solved faster
                v[name] = min(v.get(name, 0.0), 1e-12)

    def _solve(self) -> None:
        """Posterior of the weights: over the N evaluations or over the J features, whichever are fewer."""
        at = self.features.slices
        prior = np.concatenate([np.full(at[name].stop - at[name].start, self.variances[name]) for name in at])
        prior[prior <= 1e-12] = 0.0
        self._used = np.flatnonzero(prior)
        self._prior, noise = prior[self._used], self.variances["noise"]
        self._x = x = self._features[:, self._used]
        self._dual = len(self._y) <= len(self._used)
        if self._dual:
            self._root = np.linalg.inv(np.linalg.cholesky((x * self._prior) @ x.T + noise * np.eye(len(self._y)))).T
            own = self._prior * (x.T @ (self._root @ (self._root.T @ self._y)))
        else:
            precision = x.T @ x + noise * np.diag(1 / self._prior)
            self._root = np.linalg.inv(np.linalg.cholesky(precision)).T  # that of its inverse may lose its sign
            own = self._root @ (self._root.T @ (x.T @ self._y))
        self._weights = self._all(own)

    def _drawn(self, rng: np.random.Generator) -> Array:
        noise = np.sqrt(self.variances["noise"])
        if self._dual:  # a draw from the prior, conditioned on the evaluations (Matheron's rule)
            w = np.sqrt(self._prior) * rng.standard_normal(len(self._used))
            known = self._x @ w + noise * rng.standard_normal(len(self._y))
            return self._all(w + self._prior * (self._x.T @ (self._root @ (self._root.T @ (self._y - known)))))
        return self._weights + self._all(noise * (self._root @ rng.standard_normal(len(self._used))))

    def _all(self, own: Array) -> Array:
        weights = np.zeros(sum(self.features.sizes))
        weights[self._used] = own
        return weights
