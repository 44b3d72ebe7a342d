"""Quantities that are a constant plus a sum over layers, and exact answers about them over whole spaces.

`AdditiveTable` holds such a quantity; `Feasible` is the set of subnets that keep limits on some of them, and counts
it, draws from it and optimises over it by dynamic programming.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from search_spaces import paths
from search_spaces.errors import InfeasibleError, SpaceError
from search_spaces.space import Space
from search_spaces.subnet import Subnet
from search_spaces.trellis import Trellis, build_trellis, integers_below, unranked
from search_spaces.types import Array, Number

__all__ = ["AdditiveTable", "Feasible", "FrontPoint"]

Limits = Sequence[tuple["AdditiveTable", Number]]

_INTEGER_BITS = 61  # sums stay below, so that the lowest of `paths` plus a sum is lowest still, and wraps nowhere
_GROUP_ENTRIES = 1 << 12  # of sums over some layers: more layers in a group are fewer gathers, from a larger table
_ROWS_AT_A_TIME = 4096  # whose indices and codes stay in the processor's cache


class FrontPoint(NamedTuple):
    """One subnet of a Pareto front, its cost (minimised) and its score."""

    subnet: Subnet
    cost: Number
    score: Number


@dataclass(frozen=True, eq=False)
class AdditiveTable:
    """A quantity of a subnet: a constant plus one term for each kept layer, for every embed dim and depth.

    `constant` (E, P) over the space's embed dims and depths; `layers[l]` (E, P, C) over the choices of the
    supernet's layer l, in the order of `space.choices[l]`. All int64 (exact) or all float64. Terms of layers that
    a depth does not keep are never read. Raises `SpaceError` for other shapes, numbers that are not finite, and
    integers whose sums could reach 2^61.
    """

    space: Space
    name: str
    unit: str
    constant: Array
    layers: tuple[Array, ...]

    def __post_init__(self) -> None:
        arrays = [np.asarray(self.constant), *map(np.asarray, self.layers)]
        E, P = len(self.space.embed_dims), len(self.space.depths)
        shapes = [(E, P), *((E, P, len(choices)) for choices in self.space.choices)]
        if [array.shape for array in arrays] != shapes:
            raise SpaceError(f"table '{self.name}' must have shapes {shapes}; got {[a.shape for a in arrays]}")
        whole = all(map(_is_whole, arrays))
        reach = sum(max(abs(int(value) if whole else float(value)) for value in array.flat) for array in arrays)
        if whole and reach >= 1 << _INTEGER_BITS:
            raise SpaceError(
                f"integers of table '{self.name}' must sum to less than 2^{_INTEGER_BITS}; theirs could reach "
                f"{reach:,} (take a larger unit, or floats)"
            )
        arrays = [array.astype(np.int64 if whole else np.float64) for array in arrays]
        if not all(np.isfinite(array).all() for array in arrays) or reach == math.inf:
            raise SpaceError(f"table '{self.name}' holds numbers, or has sums, that are not finite")
        object.__setattr__(self, "constant", arrays[0])
        object.__setattr__(self, "layers", tuple(arrays[1:]))

    @classmethod
    def build(
        cls,
        space: Space,
        name: str,
        unit: str,
        constant: Callable[[int, int], Number],
        layer: Callable[[int, int, float, int, int], Number],
    ) -> AdditiveTable:
        """The table of `constant(embed_dim, depth)` and `layer(embed_dim, heads, ffn_ratio, layer_index, depth)`."""
        constants = [[constant(D, depth) for depth in space.depths] for D in space.embed_dims]
        layers = [
            [
                [[layer(D, heads, ratio, i, depth) for heads, ratio in choices] for depth in space.depths]
                for D in space.embed_dims
            ]
            for i, choices in enumerate(space.choices)
        ]
        as_given = [np.array(values, dtype=object) for values in (constants, *layers)]  # else numpy rounds large ints
        return cls(space, name, unit, as_given[0], tuple(as_given[1:]))

    @property
    def exact(self) -> bool:
        """Whether the table is of integers."""
        return self.constant.dtype == np.int64

    def of(self, subnet: Subnet) -> Number:
        """The quantity of one subnet: an int where the table is exact."""
        return self.of_vectors(self.space.encode(subnet)[None])[0].item()  # type: ignore[no-any-return]

    def of_vectors(self, vectors: npt.ArrayLike) -> Array:
        """The quantity (N,) of N subnets, given as rows of `Space.encode`."""
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
        """The quantity of each row of an integer table, by one gather for several layers at once.

        None where the table, or an index, is none of those it is made for: `_sums` knows what is wrong, if anything.
        Sums below 2^53 are exact in floats, whatever their order, and a choice that is missing is NaN.
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
        """The quantity of each row, by one gather a layer."""
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
            totals += terms.take(code, mode="clip")  # a layer that is not kept, whatever its indices, meets a 0
        return totals

    def _check(self, rows: Array) -> None:
        """Raises `SpaceError` where an index that is read is not in the space."""
        inside = rows.view(np.uint64) < self._sizes  # unsigned, numbers below 0 are large too
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
        """Embed dims, depths, and the most choices of heads and of FFN ratios of any layer."""
        space = self.space
        return len(space.embed_dims), len(space.depths), max(map(len, space.heads)), max(map(len, space.ffn_ratios))

    @cached_property
    def _sizes(self) -> npt.NDArray[np.uint64]:
        """How many choices each entry of a vector indexes."""
        space = self.space
        per_layer = [len(c) for pair in zip(space.heads, space.ffn_ratios, strict=True) for c in pair]
        return np.array([*self._shape[:2], *per_layer], dtype=np.uint64)

    @cached_property
    def _reads(self) -> Array:
        """(P, entries): whether a depth reads an entry of a vector."""
        reads = np.ones((self._shape[1], len(self._sizes)), dtype=bool)
        for p, kept in enumerate(self.space.depth_map.values()):
            reads[p, 2:] = np.isin(np.arange(len(self.layers)), kept).repeat(2)
        return reads

    @cached_property
    def _flat(self) -> tuple[Array, list[Array]]:
        """Constant and layers, flat: by heads, ratio, embed dim, depth, with 0 in layers that a depth lacks and around.

        With embed dim and depth last, no index of a layer leads to another embed dim or depth.
        """
        E, P, H, R = self._shape
        layers = np.zeros((len(self.layers), H, R, E, P), dtype=self.constant.dtype)
        for p, kept in enumerate(self.space.depth_map.values()):
            for layer in kept:
                h, r = len(self.space.heads[layer]), len(self.space.ffn_ratios[layer])
                layers[layer, :h, :r, :, p] = self.layers[layer][:, p].T.reshape(h, r, E)
        return self.constant.ravel(), [np.pad(terms.ravel(), 1) for terms in layers]

    @cached_property
    def _groups(self) -> tuple[Array, list[Array]] | None:
        """Sums over groups of layers, flat, and the weights (groups, entries) that make vectors plus 1 their indices.

        Indices run over embed dim, depth, then heads and ratio of each layer of the group; 0 is -1, not kept.
        """
        E, P, H, R = self._shape
        reach = sum(np.abs(array).max() for array in (self.constant, *self.layers))
        if not self.exact or reach >= 1 << 53:
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
        """(E + 1, P + 1, choices) of one layer in floats: NaN where a depth needs a choice that is not there."""
        E, P, H, R = self._shape
        terms = np.full((E + 1, P + 1, H + 1, R + 1), np.nan)
        h, r = len(self.space.heads[layer]), len(self.space.ffn_ratios[layer])
        for p, kept in enumerate(self.space.depth_map.values()):
            if layer in kept:
                terms[1:, p + 1, 1 : h + 1, 1 : r + 1] = self.layers[layer][:, p].reshape(E, h, r)
            else:
                terms[1:, p + 1] = 0
        return terms.reshape(E + 1, P + 1, -1)

    def links(self, kept: Sequence[int]) -> list[Array | None]:
        """What each two neighbours of the kept layers add, (C, C'), or None: see `ChainTable`."""
        return [None] * (len(kept) - 1)

    # Shorthands of `Feasible`; `budgets` are more limits, as (table, limit) pairs.

    def range(self, budgets: Limits = ()) -> tuple[Number, Number]:
        """The least and the greatest value, over the space or over those that keep `budgets`."""
        fits = Feasible(self.space, budgets)
        return self.of(fits.best(self, maximize=False)), self.of(fits.best(self))

    def count(self, budget: Number | None = None, budgets: Limits = ()) -> int:
        """How many subnets are at most `budget`, exactly (see the module about real-valued tables)."""
        return self._within(budget, budgets).count()

    def sample(self, budget: Number | None, rng: np.random.Generator, n: int = 1, budgets: Limits = ()) -> list[Subnet]:
        """`n` independent draws, uniform over the subnets that are at most `budget`, without rejection."""
        return self._within(budget, budgets).sample(rng, n)

    def cheapest(self, budgets: Limits = ()) -> Subnet:
        """A subnet with the least value."""
        return Feasible(self.space, budgets).best(self, maximize=False)

    def best(
        self, score: AdditiveTable, budget: Number | None = None, maximize: bool = True, budgets: Limits = ()
    ) -> Subnet:
        """The subnet best by `score` among those that are at most `budget`."""
        return self._within(budget, budgets).best(score, maximize)

    def front(
        self, score: AdditiveTable, maximize: bool = True, budget: Number | None = None, budgets: Limits = ()
    ) -> list[FrontPoint]:
        """The exact Pareto front of this (minimised) against `score`, in rising order of this."""
        return self._within(budget, budgets).front(self, score, maximize)

    def _within(self, budget: Number | None, budgets: Limits) -> Feasible:
        own = [] if budget is None else [(self, budget)]
        return Feasible(self.space, [*own, *budgets])


class Feasible:
    """The subnets of a space that keep every limit: table <= number. Without limits, the whole space.

    Methods that need a subnet raise `InfeasibleError`, naming the nearest that is possible, where there is none.
    """

    def __init__(self, space: Space, limits: Limits = ()) -> None:
        self.space = space
        self.limits = tuple((self._plain(table), _limit(table, limit)) for table, limit in limits)

    def _own(self, table: AdditiveTable) -> AdditiveTable:
        if table.space != self.space:
            raise SpaceError(f"table '{table.name}' is of space '{table.space.name}', not of '{self.space.name}'")
        return table

    def _plain(self, table: AdditiveTable) -> AdditiveTable:
        if any(link is not None for kept in self.space.depth_map.values() for link in table.links(kept)):
            raise SpaceError(
                f"table '{table.name}' has terms of neighbouring layers, so it cannot be a limit or a cost"
            )
        return self._own(table)

    def contains(self, subnet: Subnet) -> bool:
        """Whether `subnet` is of the space and keeps every limit."""
        return self.space.contains(subnet) and all(table.of(subnet) <= limit for table, limit in self.limits)

    def count(self) -> int:
        """How many subnets keep the limits."""
        return sum(int(counts[0][0]) for counts in self._counts)

    def sample(self, rng: np.random.Generator, n: int = 1, balanced: bool = False) -> list[Subnet]:
        """`n` independent draws, each subnet that keeps the limits with the same probability.

        `balanced`: first an (embed dim, depth) of which any subnet fits, each as likely, then uniformly among those.
        """
        totals = [int(counts[0][0]) for counts in self._counts]
        if not totals:
            raise self._impossible()
        if not balanced:
            return self._unrank(integers_below(rng, sum(totals), n))
        firsts = list(accumulate(totals, initial=0))
        which = rng.integers(len(totals), size=n).tolist()
        return self._unrank(np.array([firsts[k] + int(integers_below(rng, totals[k], 1)[0]) for k in which]))

    def ranked(self, table: AdditiveTable, maximize: bool = True) -> Iterator[Subnet]:
        """The subnets from the best by `table` on, as many as are taken; see `paths.ranked`."""
        self._own(table)
        if not self._trellises:
            raise self._impossible()
        result = paths.ranked(self._trellises, table, 1 if maximize else -1)
        return (self._subnet(trellis, choices) for trellis, choices in result)

    def best_of_each_shape(self, table: AdditiveTable, maximize: bool = True) -> list[Subnet]:
        """The best by `table` of each (embed dim, depth) in which any subnet keeps the limits."""
        self._own(table)
        firsts = (next(paths.ranked([trellis], table, 1 if maximize else -1)) for trellis in self._trellises)
        return [self._subnet(trellis, choices) for trellis, choices in firsts]

    def best(self, table: AdditiveTable, maximize: bool = True) -> Subnet:
        """The subnet with the greatest (or least) value of `table`."""
        return next(self.ranked(table, maximize))

    def cheapest(self, table: AdditiveTable) -> Subnet:
        """The subnet with the least value of `table`."""
        return self.best(table, maximize=False)

    def front(self, cost: AdditiveTable, score: AdditiveTable, maximize: bool = True) -> list[FrontPoint]:
        """The exact Pareto front of `cost` (minimised) against `score`, in rising order of cost."""
        self._plain(cost), self._own(score)
        if not self._trellises:
            raise self._impossible()
        result = paths.front(self._trellises, cost, score, 1 if maximize else -1)
        return [FrontPoint(self._subnet(trellis, choices), a, b) for trellis, choices, a, b in result]

    # ---------------------------------------------------------------- the trellises

    @cached_property
    def _trellises(self) -> list[Trellis]:
        """One for each (embed dim, depth) in which something fits."""
        combinations = product(range(len(self.space.embed_dims)), enumerate(self.space.depth_map.values()))
        choices = [len(each) for each in self.space.choices]
        built = (build_trellis(self.limits, e, p, kept, choices) for e, (p, kept) in combinations)
        return [trellis for trellis in built if trellis is not None]

    @cached_property
    def _counts(self) -> list[list[Array]]:
        dtype = np.int64 if self.space.size < 1 << 62 else object
        return [trellis.counts(dtype) for trellis in self._trellises]

    def _unrank(self, ranks: Array) -> list[Subnet]:
        """The subnets with these numbers, in the order of trellis, then choices layer by layer."""
        subnets: dict[int, Subnet] = {}
        for i, trellis, choices in unranked(self._trellises, self._counts, ranks):
            subnets[i] = self._subnet(trellis, choices)
        return [subnets[i] for i in range(len(ranks))]

    def _subnet(self, trellis: Trellis, choices: Iterable[int]) -> Subnet:
        pairs = [self.space.choices[layer][c] for layer, c in zip(trellis.kept, choices, strict=True)]
        heads, ratios = zip(*pairs, strict=True)
        return Subnet._trusted(self.space.embed_dims[trellis.e], heads, ratios)

    def _impossible(self) -> InfeasibleError:
        """What is the nearest possible, in one line."""
        for table, limit in self.limits:
            subnet = table.cheapest()
            if table.of(subnet) > limit:
                least = "the fastest takes" if table.unit == "ms" else "the smallest has"
                return InfeasibleError(
                    f"no subnet of '{self.space.name}' keeps {table.name}<={_said(limit)}; "
                    f"{least} {_said(table.of(subnet))} {table.unit} (subnet {subnet.to_json()})"
                )
        nearest = []
        for i, (table, limit) in enumerate(self.limits):
            others = Feasible(self.space, [*self.limits[:i], *self.limits[i + 1 :]])
            if others.count():
                nearest.append(
                    f"{table.name} could be {_said(table.of(others.cheapest(table)))} instead of {_said(limit)}"
                )
        return InfeasibleError(
            f"no subnet of '{self.space.name}' keeps "
            + " and ".join(f"{table.name}<={_said(limit)}" for table, limit in self.limits)
            + " together; the others kept, "
            + ", or ".join(nearest or ["none of them can be kept"])
        )


def _said(value: Number) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _is_whole(array: Array) -> bool:
    """Whether all are integers, of any size."""
    if array.dtype == object:
        return all(isinstance(value, numbers.Integral) for value in array.flat)
    return np.issubdtype(array.dtype, np.integer)


def _limit(table: AdditiveTable, limit: Any) -> Number:
    """`limit` as a plain int or float."""
    if not isinstance(limit, numbers.Real) or isinstance(limit, bool) or limit != limit:
        raise SpaceError(f"the limit on {table.name} must be a number; got {limit!r}")
    return int(limit) if isinstance(limit, numbers.Integral) else float(limit)
