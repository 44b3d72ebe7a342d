"""Latency predicted as a sum over layers, with a bound that holds.

Log-free and additive, so that it is a table (counted, sampled and optimised exactly): a subnet's milliseconds are

    c(D, depth) + f(D, front end) + sum over kept layers of g(D, heads, F)

All are fitted together by ridge regression on relative errors. g is what a processor does in a layer (products of
D x inner and D x F, attention over T frames, memory that is read once a layer) plus a deviation for each (D, heads,
FFN ratio), or for each half alone if these are many, which has little room of its own: kernels have favourite sizes. f
is the work of the convolutions, plus a deviation. What is not additive (caches, thread barriers) enters as a deviation
for each (D, depth). How much room deviations have is chosen by leave-one-out error.

The bound is conformal: the error that all but a share 1 - confidence of the measured subnets keep, each predicted by a
model to which a tenth of them, itself included, was not shown: neither for its weights nor to choose the room. (With
leave-one-out errors of the model itself 1.75 % were over a bound of 99 %.) n measurements can promise n / (n + 1). With
100, that is the largest error seen, which is luck: the bound is at least what normal errors of that size would need.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from search_spaces import AdditiveTable, NasError, Space, Subnet
from search_spaces.files import require_file
from search_spaces.types import Array

__all__ = ["CONFIDENCE", "ColumnFeatures", "LatencyModel", "SpaceFeatures", "accuracy", "fit_csv", "read_csv"]


_ROOM = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the deviations, relative to a typical latency's scale
_FOLDS = 10
MAX_KINDS = 24  # of layers, whose deviations are learned one by one
CONFIDENCE = 0.99


class LatencyFeatures(Protocol):
    """Rows (N, K) of architectures; `blocks` (K,): 0 for columns of physics, 1 of deviations, 2 of the not additive."""

    blocks: Array

    def __call__(self, architectures: Sequence[Any]) -> Array: ...


class LatencyModel:
    """Ridge regression of `ms` (N,) on features, with deviations as far as they predict; see the module."""

    def __init__(self, features: LatencyFeatures, architectures: Sequence[Any], ms: npt.ArrayLike) -> None:
        y = np.asarray(ms, dtype=float)
        if len(y) < 8 or len(y) != len(architectures):
            raise NasError(f"a latency model needs at least 8 measurements; got {len(y)}")
        if not np.isfinite(y).all() or (y <= 0).any():
            raise NasError("latencies must be positive, finite milliseconds")
        self.features = features
        x = features(architectures)
        scale = np.maximum(np.abs(x).max(0), 1e-12)
        relative = x / scale / y[:, None]  # so that errors are shares of a latency
        self.weights: Array = _chosen(relative, features.blocks, y) / scale
        predicted = np.empty(len(y))
        for fold in range(_FOLDS):
            test = np.arange(len(y)) % _FOLDS == fold
            predicted[test] = relative[test] @ _chosen(relative[~test], features.blocks, y[~test])
        self.errors: Array = 1 / predicted - 1  # of the measured over the predicted, less 1

    def predict(self, architectures: Sequence[Any]) -> Array:
        """Mean milliseconds (N,)."""
        predicted: Array = self.features(architectures) @ self.weights
        return predicted

    def margin(self, confidence: float = CONFIDENCE) -> float:
        """How far over its prediction a new latency is, relative, in at most a share 1 - `confidence` of cases."""
        n = len(self.errors)
        rank = min(n, math.ceil((n + 1) * confidence))
        normal = NormalDist().inv_cdf((1 + confidence) / 2) * float(np.sqrt((self.errors**2).mean()))
        return max(normal, float(np.sort(self.errors)[rank - 1]))

    def confidence(self, wanted: float = CONFIDENCE) -> float:
        """The confidence of the bound: the wanted one, or the highest that so few measurements allow."""
        n = len(self.errors)
        return min(wanted, n / (n + 1))

    def table(self, margin: float = 0.0) -> AdditiveTable:
        """The prediction, raised by `margin`, as a table of the features' space."""
        features = self.features
        if not isinstance(features, SpaceFeatures):
            raise NasError("this latency model is of a CSV's columns, not of a space, so it is no table of one")
        w = self.weights * (1 + margin)
        return AdditiveTable.build(
            features.space,
            "latency_ms",
            "ms",
            lambda D, depth: float(features.constant(D, depth) @ w),
            lambda D, heads, ratio, layer, depth: float(features.layer(D, heads, ratio) @ w),
            lambda D, channels: float(features.front_end(D, channels) @ w),
        )


def _chosen(x: Array, blocks: Array, y: Array) -> Array:
    """The ridge weights of 1 ~ x with the room for deviations that predicts best, each row left out in turn."""
    best, weights = math.inf, np.zeros(x.shape[1])
    for rooms in product(_ROOM, _ROOM):
        penalty = np.array([1e-8, *(1e-6 / room for room in rooms)])[blocks] * (1 / y**2).mean()
        solved = np.linalg.solve(x.T @ x + np.diag(penalty) * len(x), x.T)
        tried = solved.sum(1)
        left_out = (1 - x @ tried) / np.maximum(1 - np.einsum("nk,kn->n", x, solved), 1e-6)
        loss = float(np.sqrt((left_out**2).mean()))
        if loss < 0.995 * best:  # of equals the one with the least room: `_ROOM` rises
            best, weights = loss, tried
    return weights


class SpaceFeatures:
    """Of the subnets of a space: sums over layers, with the same layer costing the same wherever it stands."""

    def __init__(self, space: Space) -> None:
        self.space = space
        kinds = sorted({kind for choices in space.choices[: space.network.num_layers] for kind in choices})
        self._takes_away = any(0 in kind for kind in kinds)
        joint = len(kinds) <= MAX_KINDS
        deviations = kinds if joint else [*{(h, None): 0 for h, _ in kinds}, *{(None, r): 0 for _, r in kinds}]
        self._kinds = {(D, *kind): i for i, (D, kind) in enumerate(product(space.embed_dims, deviations))}
        self._joint = joint
        self._shapes = {pair: i for i, pair in enumerate(product(space.embed_dims, space.depths))}
        self._fronts = {pair: i for i, pair in enumerate(product(space.embed_dims, space.front_ends))}
        names = {"embed dims": len(space.embed_dims), "physics": len(self._physics(1, 1, 1.0))}
        if space.elastic_front_end:
            names["work"] = len(self._work(space.embed_dims[0], space.network.channels))
        sizes = {**names, "kinds": len(self._kinds), "fronts": len(self._fronts), "shapes": len(self._shapes)}
        if not space.elastic_front_end:
            sizes["fronts"] = 0
        ends = np.cumsum([0, *sizes.values()]).tolist()
        self._at = {name: slice(start, end) for name, start, end in zip(sizes, ends, ends[1:], strict=False)}
        self.blocks = np.repeat([0] * len(names) + [1, 1, 2], list(sizes.values()))

    def __call__(self, architectures: Sequence[Subnet]) -> Array:
        return np.array([self._row(subnet) for subnet in architectures])

    def constant(self, D: int, depth: int) -> Array:
        """The features of a subnet that do not depend on its layers."""
        row = np.zeros(len(self.blocks))
        row[self.space.embed_dims.index(D)] = 1
        row[self._at["shapes"].start + self._shapes[D, depth]] = 1
        return row

    def layer(self, D: int, heads: int, ratio: float) -> Array:
        """The features of one layer."""
        row = np.zeros(len(self.blocks))
        row[self._at["physics"]] = self._physics(D, heads, ratio)
        for own in ((D, heads, ratio),) if self._joint else ((D, heads, None), (D, None, ratio)):
            row[self._at["kinds"].start + self._kinds[own]] = 1
        return row

    def front_end(self, D: int, channels: tuple[int, ...]) -> Array:
        """The features of the front end with these channels of each convolution; of the only one, nothing."""
        row = np.zeros(len(self.blocks))
        if self.space.elastic_front_end:
            row[self._at["work"]] = self._work(D, channels)
            stored = () if channels == self.space.network.channels else channels
            row[self._at["fronts"].start + self._fronts[D, stored]] = 1
        return row

    def _physics(self, D: int, heads: int, ratio: float) -> tuple[float, ...]:
        """At a fixed number of frames: one, widths (norms, softmax, GELU, bias), and products (weights and flops).

        If layers may lack a half, also one for each half that is there.
        """
        inner, F = heads * self.space.network.head_dim, int(ratio * D)
        halves = (float(inner > 0), float(F > 0)) if self._takes_away else ()
        return (1.0, D, inner, F, D * inner, D * F, *halves)

    def _work(self, D: int, channels: tuple[int, ...]) -> tuple[float, ...]:
        """For a second of audio: outputs of the convolutions, and products of the first and of the others."""
        network = self.space.network
        lengths = network.lengths(16_000)[network.mel :]
        inputs = (network.mels or 1, *channels)
        products = [length * inputs[i] * channels[i] * network.conv_layers[i][1] for i, length in enumerate(lengths)]
        outputs = sum(length * width for length, width in zip(lengths, channels, strict=True))
        return (outputs, products[0], sum(products[1:]), channels[-1] * D)

    def _row(self, subnet: Subnet) -> Array:
        row = self.constant(subnet.embed_dim, subnet.depth)
        row = row + self.front_end(subnet.embed_dim, subnet.front_end or self.space.network.channels)
        for heads, ratio in zip(subnet.heads, subnet.ffn_ratios, strict=True):
            row = row + self.layer(subnet.embed_dim, heads, ratio)
        return row


class ColumnFeatures:
    """Of the rows of any space's table: columns named `<choice>_<layer>` are a layer's, others the whole network's.

    Rows are (columns,) numbers, NaN for layers that a network lacks. A layer's term is linear in its choice, alone
    and times each column of the whole network, plus a deviation for each of its values, in all layers and in each.
    """

    def __init__(self, columns: Sequence[str], rows: npt.ArrayLike) -> None:
        values = np.asarray(rows, dtype=float)
        if values.ndim != 2 or values.shape[1] != len(columns):
            raise NasError(f"rows must have {len(columns)} columns; got shape {values.shape}")
        self.columns = tuple(columns)
        result = [re.fullmatch(r"(.*?\D)_?\[?(\d+)\]?", column) for column in columns]
        self._choice = [match.group(1).rstrip("_[") if match else "" for match in result]
        self._choices = [name for name in dict.fromkeys(self._choice) if name]
        self._whole = [i for i, name in enumerate(self._choice) if not name]
        self._levels = {
            name: np.unique(values[:, [c == name for c in self._choice]])[:MAX_LEVELS] for name in self._choices
        }
        self._levels = {name: levels[np.isfinite(levels)] for name, levels in self._levels.items()}
        self._whole_levels = {i: np.unique(values[:, i][np.isfinite(values[:, i])])[:MAX_LEVELS] for i in self._whole}
        self.blocks = self._parts(values)[1]

    def __call__(self, architectures: Sequence[Any]) -> Array:
        return self._parts(np.asarray(architectures, dtype=float))[0]

    def _parts(self, values: Array) -> tuple[Array, Array]:
        present = np.isfinite(values)
        plain = np.where(present, values, 0.0)
        parts: list[tuple[int, Array]] = [(0, np.ones((len(values), 1)))]
        whole = plain[:, self._whole]
        parts.append((0, whole))
        parts += [(1, values[:, [i]] == levels) for i, levels in self._whole_levels.items()]
        for name in self._choices:
            mine = [i for i, choice in enumerate(self._choice) if choice == name]
            total, count = plain[:, mine].sum(1, keepdims=True), present[:, mine].sum(1, keepdims=True)
            parts += [(0, count), (0, total), (0, total * whole), (0, count * whole)]
            matches = values[:, mine][:, :, None] == self._levels[name]
            parts += [(1, matches.sum(1)), (2, matches.reshape(len(values), -1))]
        blocks = np.concatenate([np.full(part.shape[1], block) for block, part in parts])
        return np.hstack([part.astype(float) for _, part in parts]), blocks


MAX_LEVELS = 16


def accuracy(predicted: npt.ArrayLike, measured: npt.ArrayLike, margin: float) -> dict[str, float]:
    """MAPE and P95 of the relative error, Kendall's tau, and the share measured over the prediction's upper bound."""
    p, y = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    errors = np.abs(p / y - 1)
    a, b = (np.sign(v[:, None] - v) for v in (p, y))
    ties = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return {
        "mape": float(errors.mean()),
        "p95": float(np.quantile(errors, 0.95)),
        "tau": float((a * b).sum()) / ties if ties else 0.0,
        "over": float((y > p * (1 + margin)).mean()),
    }


def fit_csv(file: Path, space: Space | None = None) -> dict[str, float]:
    """Accuracy on the rows of a CSV, each predicted by a model of nine tenths of them, and the bound's margin.

    With a `space`, columns are embed_dim, heads_1, ..., ffn_ratio_1, ... (of the kept layers, in order).
    """
    columns, rows, ms = read_csv(file)
    networks: list[Any] = list(rows) if space is None else list(_subnets(space, columns, rows))
    features: LatencyFeatures = ColumnFeatures(columns, rows) if space is None else SpaceFeatures(space)
    predicted = np.empty(len(ms))
    over = 0
    for fold in range(_FOLDS):
        test = np.arange(len(ms)) % _FOLDS == fold
        shown = LatencyModel(features, [networks[i] for i in np.flatnonzero(~test)], ms[~test])
        predicted[test] = shown.predict([networks[i] for i in np.flatnonzero(test)])
        over += int((ms[test] > predicted[test] * (1 + shown.margin())).sum())
    margin = LatencyModel(features, networks, ms).margin()
    return {"rows": len(ms), "margin": margin, **accuracy(predicted, ms, margin), "over": over / len(ms)}


def _subnets(space: Space, columns: Sequence[str], rows: Array) -> list[Subnet]:
    """The rows as subnets of the space."""
    result = []
    for number, row in enumerate(rows, start=2):
        cells = {column: value for column, value in zip(columns, row.tolist(), strict=True) if value == value}
        layers = range(1, 1 + sum(column.startswith("heads_") for column in cells))
        try:
            heads, ratios = ([cells[f"{key}_{i}"] for i in layers] for key in ("heads", "ffn_ratio"))
            subnet = Subnet(int(cells["embed_dim"]), tuple(map(int, heads)), tuple(ratios))
        except KeyError as error:
            raise NasError(f"line {number} needs a cell in column {error.args[0]}, to be a subnet") from None
        space.check(subnet)
        result.append(subnet)
    return result


def read_csv(file: Path) -> tuple[list[str], Array, Array]:
    """Choice columns, their rows (NaN where a cell is empty), and milliseconds: the column `latency_ms` (or `ms`)."""
    try:
        require_file(file)
        with file.open(newline="", encoding="utf-8") as opened:
            table = list(csv.reader(opened))
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    if len(table) < 2:
        raise NasError(f"{file} must have a line of column names and one line a measurement")
    names = [name.strip() for name in table[0]]
    target = next((name for name in ("latency_ms", "ms") if name in names), None)
    if target is None:
        raise NasError(f"{file} needs a column latency_ms; it has {', '.join(names)}")
    rows = []
    for number, line in enumerate(filter(None, table[1:]), start=2):
        try:
            rows.append([float(cell) if cell.strip() else math.nan for cell in line])
        except ValueError as error:
            raise NasError(f"line {number} of {file}: cells must be numbers ({error})") from None
        if len(rows[-1]) != len(names):
            raise NasError(f"line {number} of {file} has {len(rows[-1])} cells; {len(names)} are needed")
    values, at = np.array(rows), names.index(target)
    return [n for n in names if n != target], np.delete(values, at, axis=1), values[:, at]
