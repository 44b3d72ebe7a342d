"""Quantities that are a constant plus a sum over layers, and exact answers about them over whole spaces.

`AdditiveTable` holds such a quantity. `Feasible` is the set of subnets that keep limits on some of them: it counts the
set, draws from it and optimises over it by dynamic programming (`trellis`, which also says what is rounded; `paths`).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from search_spaces import paths
from search_spaces.errors import InfeasibleError, SpaceError
from search_spaces.space import Space
from search_spaces.subnet import Subnet
from search_spaces.trellis import MAX_MOVES, Counts, Terms, Trellis, uniform_ranks, unrank
from search_spaces.types import Array, Number
from search_spaces.vector_sums import VectorSums

__all__ = ["AdditiveTable", "Feasible", "FrontPoint"]

Limits = Sequence[tuple["AdditiveTable", Number]]

_INTEGER_BITS = 61  # sums are smaller, so -2^62 (`lowest` in `paths`) plus a sum is below every sum, and cannot wrap


class FrontPoint(NamedTuple):
    """One subnet of a Pareto front, its cost (minimised) and its score."""

    subnet: Subnet
    cost: Number
    score: Number


@dataclass(frozen=True, eq=False)
class AdditiveTable:
    """A quantity of a subnet: a constant plus one term for each kept layer, for every embed dim and depth.

    `constant` (E, P) is over the space's embed dims and depths; `layers[l]` (E, P, C) over the choices of the
    supernet's layer l, in the order of `space.choices[l]`; the last may be those of the front end. All arrays are int64
    (exact) or all are float64. The terms of layers that a depth does not keep are ignored. It is an `AdditiveCost`
    itself.

    Raises `SpaceError` for other shapes, numbers that are not finite, and integers whose sums could reach 2^61.
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
        if not whole:
            arrays = [array.astype(np.float64) for array in arrays]
        finite = whole or all(np.isfinite(array).all() for array in arrays)
        kind = int if whole else float  # Python's integers do not overflow
        reach = sum(max(kind(array.max()), -kind(array.min())) for array in arrays) if finite else math.inf
        if whole and reach >= 1 << _INTEGER_BITS:
            raise SpaceError(
                f"integers of table '{self.name}' must sum to less than 2^{_INTEGER_BITS}; theirs could reach "
                f"{reach:,} (use a larger unit, or floats)"
            )
        if reach == math.inf:
            raise SpaceError(f"table '{self.name}' holds numbers, or has sums, that are not finite")
        arrays = [array.astype(np.int64 if whole else np.float64) for array in arrays]
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
        front_end: Callable[[int, tuple[int, ...]], Number] = lambda embed_dim, channels: 0,
    ) -> AdditiveTable:
        """The table of `constant(embed_dim, depth)`, `layer(embed_dim, heads, ffn_ratio, layer_index, depth)`, and of
        `front_end(embed_dim, channels)` with the channels of each convolution.
        """
        whole = space.network.channels
        ends = [[front_end(D, channels or whole) for channels in space.front_ends] for D in space.embed_dims]
        own = [row[0] if len(row) == 1 else 0 for row in ends]  # no choice: part of the constant
        constants = [[constant(D, depth) + end for depth in space.depths] for D, end in zip(space.embed_dims, own)]
        layers = [
            [
                [[layer(D, heads, ratio, i, depth) for heads, ratio in choices] for depth in space.depths]
                for D in space.embed_dims
            ]
            for i, choices in enumerate(space.choices[: space.network.num_layers])
        ]
        if space.elastic_front_end:
            layers.append([[row for _ in space.depths] for row in ends])
        arrays = [np.array(values, dtype=object) for values in (constants, *layers)]  # else numpy rounds large ints
        return cls(space, name, unit, arrays[0], tuple(arrays[1:]))

    @property
    def table(self) -> AdditiveTable:
        """The table itself, as every `AdditiveCost` has one."""
        return self

    @property
    def exact(self) -> bool:
        """Whether the values are integers."""
        return self.constant.dtype == np.int64

    def of(self, subnet: Subnet) -> Number:
        """The quantity of one subnet: an int if the table is exact."""
        return self.of_vectors(self.space.encode(subnet)[None])[0].item()  # type: ignore[no-any-return]

    def of_vectors(self, vectors: npt.ArrayLike) -> Array:
        """The quantity (N,) of N subnets, given as rows of `Space.encode`."""
        return self._vector_sums.of(vectors)

    @cached_property
    def _vector_sums(self) -> VectorSums:
        return VectorSums(self.space, self.constant, self.layers)

    def links(self, kept: Sequence[int]) -> list[Array | None]:
        """What each two neighbours in a chain add, (C, C'), or None: see `ChainTable`."""
        return [None] * (len(kept) - 1)

    def terms(self, e: int, p: int, kept: Sequence[int]) -> Terms:
        """The quantity in one (embed dim, depth), given by their indices; `kept`: the chain of that depth."""
        return Terms(self.constant[e, p], [self.layers[layer][e, p] for layer in kept], self.links(kept))

    # Shorthands for `Feasible`; `budgets` are further limits, as (table, limit) pairs.

    def range(self, budgets: Limits = ()) -> tuple[Number, Number]:
        """The least and the greatest value in the space, or among the subnets that keep `budgets`."""
        fits = Feasible(self.space, budgets)
        return self.of(fits.best(self, maximize=False)), self.of(fits.best(self))

    def count(self, budget: Number | None = None, budgets: Limits = ()) -> int:
        """The exact number of subnets whose value is at most `budget` (real-valued tables: see `trellis`)."""
        return self._within(budget, budgets).count()

    def sample(self, budget: Number | None, rng: np.random.Generator, n: int = 1, budgets: Limits = ()) -> list[Subnet]:
        """`n` independent uniform draws from the subnets whose value is at most `budget`, without rejection."""
        return self._within(budget, budgets).sample(rng, n)

    def cheapest(self, budgets: Limits = ()) -> Subnet:
        """A subnet with the least value."""
        return Feasible(self.space, budgets).best(self, maximize=False)

    def best(
        self, score: AdditiveTable, budget: Number | None = None, maximize: bool = True, budgets: Limits = ()
    ) -> Subnet:
        """The best subnet by `score` among those whose value is at most `budget`."""
        return self._within(budget, budgets).best(score, maximize)

    def front(
        self, score: AdditiveTable, maximize: bool = True, budget: Number | None = None, budgets: Limits = ()
    ) -> list[FrontPoint]:
        """The exact Pareto front of this table (minimised) and `score`, in rising order of this table."""
        return self._within(budget, budgets).front(self, score, maximize)

    def _within(self, budget: Number | None, budgets: Limits) -> Feasible:
        own = [] if budget is None else [(self, budget)]
        return Feasible(self.space, [*own, *budgets])


class Feasible:
    """The subnets of a space that keep every limit (table <= number). Without limits, the whole space.

    `uniform`: only those that are alike in all layers. If no subnet keeps the limits, methods that need one raise
    `InfeasibleError`, which names the nearest possible.
    """

    def __init__(self, space: Space, limits: Limits = (), uniform: bool = False, max_moves: int = MAX_MOVES) -> None:
        self.space, self.uniform, self._max_moves = space, uniform, max_moves
        self.limits = tuple((self._plain(table), _limit(table, limit)) for table, limit in limits)

    def _own(self, table: AdditiveTable) -> AdditiveTable:
        """`table`; raises `SpaceError` if it is of another space."""
        if table.space != self.space:
            raise SpaceError(f"table '{table.name}' is of space '{table.space.name}', not of '{self.space.name}'")
        return table

    def _plain(self, table: AdditiveTable) -> AdditiveTable:
        """`table`; raises `SpaceError` if it has terms of neighbouring layers."""
        if any(link is not None for chain in self.space.chains for link in table.links(chain)):
            raise SpaceError(
                f"table '{table.name}' has terms of neighbouring layers, so it cannot be a limit or a cost"
            )
        return self._own(table)

    def contains(self, subnet: Subnet) -> bool:
        """Whether `subnet` is in the space and keeps every limit."""
        if self.uniform and not subnet.uniform:
            return False
        return self.space.contains(subnet) and all(table.of(subnet) <= limit for table, limit in self.limits)

    def coarser(self, max_moves: int) -> Feasible:
        """The same with smaller trellises: faster, and with more subnets near the limits left out (see `trellis`).

        Itself if its trellises are small.
        """
        moves = sum(move.size for trellis in self._trellises for move in trellis.moves)
        small = moves <= max_moves or not self.limits
        return self if small else Feasible(self.space, self.limits, self.uniform, max_moves)

    def keeps(self, vectors: Array) -> Array:
        """(N,): whether subnets of the space, given as rows of `Space.encode`, are in this set."""
        kept = np.ones(len(vectors), dtype=bool)
        for table, limit in self.limits:
            kept &= table.of_vectors(vectors) <= limit
        if self.uniform:
            kept &= np.array([self.space.decode(row).uniform for row in vectors], dtype=bool)
        return kept

    def count(self) -> int:
        """The number of subnets that keep the limits."""
        return sum(self._totals)

    def sample(self, rng: np.random.Generator, n: int = 1, balanced: bool = False) -> list[Subnet]:
        """`n` independent draws, each subnet that keeps the limits with the same probability.

        `balanced`: first an (embed dim, depth), uniformly among those with a subnet that keeps the limits, then
        uniformly among its subnets.
        """
        if not self._totals:
            raise self._impossible()
        ranks = uniform_ranks(rng, self._totals, n, balanced)
        drawn: dict[int, Subnet] = {}
        for trellis, indices, columns in unrank(self._trellises, self._counts, ranks):
            rows = zip(*(column.tolist() for column in columns), strict=True)
            for i, choices in zip(indices.tolist(), rows, strict=True):
                drawn[i] = self._subnet(trellis, choices)
        return [drawn[i] for i in range(n)]

    def ranked(self, table: AdditiveTable, maximize: bool = True) -> Iterator[Subnet]:
        """All subnets that keep the limits, best by `table` first. Lazy: take as many as you need (`paths.ranked`)."""
        self._own(table)
        if not self._trellises:
            raise self._impossible()
        best_first = paths.ranked(((each, _terms(table, each)) for each in self._trellises), 1 if maximize else -1)
        return (self._subnet(trellis, choices) for trellis, choices in best_first)

    def best_of_each_shape(self, table: AdditiveTable, maximize: bool = True) -> list[Subnet]:
        """The best subnet by `table` for each (embed dim, depth) that has one within the limits."""
        self._own(table)
        sign = 1 if maximize else -1
        firsts = (next(paths.ranked([(each, _terms(table, each))], sign)) for each in self._trellises)
        return [self._subnet(trellis, choices) for trellis, choices in firsts]

    def best(self, table: AdditiveTable, maximize: bool = True) -> Subnet:
        """The subnet with the greatest (or least) value of `table`."""
        return next(self.ranked(table, maximize))

    def cheapest(self, table: AdditiveTable) -> Subnet:
        """The subnet with the least value of `table`."""
        return self.best(table, maximize=False)

    def front(self, cost: AdditiveTable, score: AdditiveTable, maximize: bool = True) -> list[FrontPoint]:
        """The exact Pareto front of `cost` (minimised) and `score`, in rising order of cost."""
        self._plain(cost)
        self._own(score)
        if not self._trellises:
            raise self._impossible()
        graphs = [(each, _terms(cost, each), _terms(score, each)) for each in self._trellises]
        points = paths.front(graphs, 1 if maximize else -1)
        return [FrontPoint(self._subnet(trellis, choices), a, b) for trellis, choices, a, b in points]

    # ---------------------------------------------------------------- the trellises

    @cached_property
    def _trellises(self) -> list[Trellis]:
        """One for each (embed dim, depth) that has a subnet within the limits; uniform: and for each layer choice."""
        combinations = product(range(len(self.space.embed_dims)), enumerate(self.space.chains))
        build = self._uniform_trellises if self.uniform else self._trellis
        return [trellis for e, (p, chain) in combinations for trellis in build(e, p, chain)]

    def _trellis(self, e: int, p: int, kept: tuple[int, ...]) -> list[Trellis]:
        num_choices = [len(self.space.choices[layer]) for layer in kept]
        limits = [(table.terms(e, p, kept), limit) for table, limit in self.limits]
        trellis = Trellis.build(e, p, kept, num_choices, limits, self._max_moves)
        return [] if trellis is None else [trellis]

    def _uniform_trellises(self, e: int, p: int, chain: tuple[int, ...]) -> list[Trellis]:
        """One for each choice that all layers have: its other choices are forbidden."""
        choices, front = self.space.choices, int(self.space.elastic_front_end)
        limits = [(table.terms(e, p, chain), limit) for table, limit in self.limits]
        sizes, trellises = [len(choices[entry]) for entry in chain], []
        for choice in choices[chain[front]]:
            if all(choice in choices[layer] for layer in chain[front:]):
                only = [None] * front + [choices[layer].index(choice) for layer in chain[front:]]
                trellis = Trellis.restricted(e, p, chain, sizes, limits, only)
                trellises += [] if trellis is None else [trellis]
        return trellises

    @cached_property
    def _counts(self) -> list[Counts]:
        return [trellis.counts(self.space.size) for trellis in self._trellises]

    @property
    def _totals(self) -> list[int]:
        """Number of subnets in each trellis."""
        return [counts.total for counts in self._counts]

    def _subnet(self, trellis: Trellis, choices: Sequence[int]) -> Subnet:
        space, entries = self.space, zip(trellis.kept, choices, strict=True)
        return space.subnet(space.embed_dims[trellis.e], [(entry, space.choices[entry][c]) for entry, c in entries])

    def _impossible(self) -> InfeasibleError:
        """The error, one line, that names the nearest possible limits."""
        kind = "uniform subnet" if self.uniform else "subnet"
        for table, limit in self.limits:
            subnet = Feasible(self.space, uniform=self.uniform).cheapest(table)
            if table.of(subnet) > limit:
                least = "the fastest takes" if table.unit == "ms" else "the smallest has"
                return InfeasibleError(
                    f"no {kind} of '{self.space.name}' keeps {table.name}<={_text(limit)}; "
                    f"{least} {_text(table.of(subnet))} {table.unit} (subnet {subnet.to_json()})"
                )
        nearest = []
        for i, (table, limit) in enumerate(self.limits):
            others = Feasible(self.space, [*self.limits[:i], *self.limits[i + 1 :]], self.uniform)
            if others.count():
                nearest.append(
                    f"{table.name} could be {_text(table.of(others.cheapest(table)))} instead of {_text(limit)}"
                )
        limits = " and ".join(f"{table.name}<={_text(limit)}" for table, limit in self.limits)
        hint = f"with the others kept, {', or '.join(nearest)}" if nearest else "leaving out one of them is not enough"
        return InfeasibleError(f"no {kind} of '{self.space.name}' keeps {limits} together; {hint}")


def _terms(table: AdditiveTable, trellis: Trellis) -> Terms:
    return table.terms(trellis.e, trellis.p, trellis.kept)


def _text(value: Number) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _is_whole(array: Array) -> bool:
    """Whether all values are integers, of any size."""
    if array.dtype == object:
        return all(isinstance(value, numbers.Integral) for value in array.flat)
    return np.issubdtype(array.dtype, np.integer)


def _limit(table: AdditiveTable, limit: object) -> Number:
    """`limit` as a plain int or float."""
    if not isinstance(limit, numbers.Real) or isinstance(limit, bool) or limit != limit:
        raise SpaceError(f"the limit on {table.name} must be a number; got {limit!r}")
    return int(limit) if isinstance(limit, numbers.Integral) else float(limit)
