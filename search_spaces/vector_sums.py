"""Sums over layers of many subnets at once, by table lookup."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from search_spaces.errors import SpaceError
from search_spaces.space import Space
from search_spaces.types import Array

__all__ = ["VectorSums"]

_GROUP_ENTRIES = 1 << 12  # sums in the table of one group of layers: larger groups need fewer gathers, but more cache
_ROWS_AT_A_TIME = 4096  # their indices and codes stay in the processor's cache


class VectorSums:
    """A constant plus one term for each kept layer, of subnets that are given as rows of `Space.encode`.

    `constant` and `layers` are those of an `AdditiveTable`. Small integers are looked up for several layers at once;
    all other values layer by layer, in the order of the layers.
    """

    def __init__(self, space: Space, constant: Array, layers: Sequence[Array]) -> None:
        self.space, self.constant, self.layers = space, constant, layers

    def of(self, vectors: npt.ArrayLike) -> Array:
        """The sum (N,) for each of N rows of `Space.encode`.

        Raises `SpaceError` for another shape and for indices that are not in the space.
        """
        rows = np.asarray(vectors)
        if rows.dtype.kind != "i":
            rows = rows.astype(np.int64)
        if rows.ndim != 2 or rows.shape[1] != len(self._sizes):
            raise SpaceError(
                f"vectors of space '{self.space.name}' must have shape (N, {len(self._sizes)}); got {rows.shape}"
            )
        totals = np.empty(len(rows), dtype=self.constant.dtype)
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            part = slice(start, start + _ROWS_AT_A_TIME)
            grouped = self._grouped_sums(rows[part])
            totals[part] = self._sums(rows[part].astype(np.int64)) if grouped is None else grouped
        return totals

    def _grouped_sums(self, rows: Array) -> Array | None:
        """The sum for each row of an integer table, by one gather for several layers at once.

        None if it cannot handle the table or an index: `_sums` finds out what is wrong, if anything.
        Sums below 2^53 are exact in floats in any order; a missing choice is NaN.
        """
        if self._groups is None:
            return None
        weights, groups = self._groups
        if rows.min(initial=0) < -1 or (rows.max(0, initial=-1) >= self._sizes.view(np.int64)).any():
            return None
        codes = (weights @ (rows + np.int8(1)).astype(np.float32).T).astype(np.intp)
        totals = groups[0].take(codes[0])
        for terms, code in zip(groups[1:], codes[1:], strict=True):
            totals += terms.take(code)
        return None if np.isnan(totals).any() else totals

    def _sums(self, rows: Array) -> Array:
        """The sum for each row, by one gather for each layer."""
        self._check(rows)
        E, P, _, R = self._shape
        constant, layers = self._flat
        combination = rows[:, 0] * P + rows[:, 1]
        totals = constant.take(combination)
        codes = np.multiply(rows[:, 2::2].T, R, order="C")
        codes += rows[:, 3::2].T
        codes *= E * P
        codes += combination + 1
        for terms, code in zip(layers, codes, strict=True):
            totals += terms.take(code, mode="clip")  # a layer that is not kept adds 0, whatever its indices
        return totals

    def _check(self, rows: Array) -> None:
        """Raises `SpaceError` if an index of a kept layer is not in the space."""
        inside = rows.view(np.uint64) < self._sizes  # as unsigned integers, negative numbers are large too
        if not inside.all():
            wrong = self._reads.take(rows[:, 1], axis=0, mode="clip") > inside
            if wrong.any():
                row, entry = np.argwhere(wrong)[0]
                raise SpaceError(
                    f"index {rows[row, entry]} in entry {entry} of a vector is not in space '{self.space.name}'; "
                    f"allowed: 0..{int(self._sizes[entry]) - 1}"
                )

    @cached_property
    def _shape(self) -> tuple[int, int, int, int]:
        """Number of embed dims E and depths P, and the most choices of heads H and of FFN ratios R in any layer."""
        space = self.space
        return len(space.embed_dims), len(space.depths), *(max(sizes) for sizes in zip(*space.sizes))  # type: ignore[return-value]

    @cached_property
    def _sizes(self) -> npt.NDArray[np.uint64]:
        """Number of choices that each entry of a vector indexes."""
        return np.array([*self._shape[:2], *(n for pair in self.space.sizes for n in pair)], dtype=np.uint64)

    @cached_property
    def _reads(self) -> Array:
        """(P, entries): whether an entry of a vector matters at a depth."""
        reads = np.ones((self._shape[1], len(self._sizes)), dtype=bool)
        for p, kept in enumerate(self.space.chains):
            reads[p, 2:] = np.isin(np.arange(len(self.layers)), kept).repeat(2)
        return reads

    @cached_property
    def _flat(self) -> tuple[Array, list[Array]]:
        """Constant and layers, flat: by heads, ratio, embed dim, depth; 0 in layers a depth lacks and at both ends.

        With embed dim and depth last, no index of a layer reaches another embed dim or depth.
        """
        E, P, H, R = self._shape
        layers = np.zeros((len(self.layers), H, R, E, P), dtype=self.constant.dtype)
        for p, kept in enumerate(self.space.chains):
            for layer in kept:
                h, r = self.space.sizes[layer]
                layers[layer, :h, :r, :, p] = self.layers[layer][:, p].T.reshape(h, r, E)
        return self.constant.ravel(), [np.pad(terms.ravel(), 1) for terms in layers]

    @cached_property
    def _groups(self) -> tuple[Array, list[Array]] | None:
        """Weights (groups, entries) that turn vectors plus 1 into indices, and the flat sums over groups of layers.

        Indices run over embed dim, depth, then heads and ratio of each layer of the group; 0 stands for -1, not kept.
        """
        E, P, H, R = self._shape
        reach = sum(np.abs(array).max() for array in (self.constant, *self.layers))
        if self.constant.dtype != np.int64 or reach >= 1 << 53:
            return None
        each, whole = (H + 1) * (R + 1), (E + 1) * (P + 1)
        size = max((n for n in range(1, len(self.layers) + 1) if whole * each**n <= _GROUP_ENTRIES), default=0)
        if not size:
            return None
        terms = [self._with_missing(layer) for layer in range(len(self.layers))]
        groups, weights = [], []
        for start in range(0, len(terms), size):
            layers = range(start, min(start + size, len(terms)))
            total = terms[start]
            for layer in layers[1:]:
                total = (total[..., None] + terms[layer][:, :, None]).reshape(E + 1, P + 1, -1)
            weight = np.zeros(len(self._sizes), dtype=np.float32)
            weight[:2] = (P + 1) * each ** len(layers), each ** len(layers)
            for layer in layers:
                weight[2 + 2 * layer : 4 + 2 * layer] = np.array([R + 1, 1]) * each ** (layers[-1] - layer)
            weights.append(weight)
            groups.append(total.ravel())
        constant = np.full((E + 1, P + 1), np.nan)
        constant[1:, 1:] = self.constant
        groups[0] = groups[0] + constant.repeat(len(groups[0]) // whole)
        return np.array(weights), groups

    def _with_missing(self, layer: int) -> Array:
        """(E + 1, P + 1, choices) of one layer, as floats: NaN for a missing choice of a layer that the depth keeps."""
        E, P, H, R = self._shape
        terms = np.full((E + 1, P + 1, H + 1, R + 1), np.nan)
        h, r = self.space.sizes[layer]
        for p, kept in enumerate(self.space.chains):
            if layer in kept:
                terms[1:, p + 1, 1 : h + 1, 1 : r + 1] = self.layers[layer][:, p].reshape(E, h, r)
            else:
                terms[1:, p + 1] = 0
        return terms.reshape(E + 1, P + 1, -1)
