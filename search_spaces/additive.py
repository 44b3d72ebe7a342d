"""Quantities that are a constant plus a sum over layers, and exact answers about them over whole spaces.

`AdditiveTable` holds such a quantity; `Feasible` is the set of subnets that keep limits on some of them, and counts
it, draws from it and optimises over it by dynamic programming.

The trellis. For one embed dim and depth, subtract from each layer its cheapest choice: what is left are residuals
>= 0, and the limit minus all the cheapest is the slack. A state is the slack that is left (one number a limit).
Under one limit every state with slack >= 0 can be completed, since the cheapest rest costs nothing; under several,
whose cheapest choices differ, some states are dead ends, which have no completions to count. Slack beyond the
dearest rest is clamped to it, so that equal futures are one state. Params and MACs have few distinct sums (about
600 in LightHuBERT's small space), hence few states.

Integer tables stay exact. Real-valued residuals are counted in quanta of 1/8192 of the largest slack, rounded UP:
a limit is never broken, and a subnet may be left out only if it is within `layers` quanta of the limit. The
cheapest subnet has no residual, so whether anything fits under one limit is exact for every table. Where limits
together need over `MOST_STATES` states, quanta grow (first those of real-valued tables) until they fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from search_spaces.errors import InfeasibleError, SpaceError
from search_spaces.space import Space
from search_spaces.subnet import Subnet

__all__ = ["AdditiveTable", "Feasible", "FrontPoint"]

Number = int | float
Limits = Sequence[tuple["AdditiveTable", Number]]
Array = npt.NDArray[Any]

MOST_STATES = 1 << 20
_QUANTA = 1 << 13


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
    a depth does not keep are never read. Raises `SpaceError` for other shapes, or numbers that are not finite.
    """

    space: Space
    name: str
    unit: str
    constant: Array
    layers: tuple[Array, ...]

    def __post_init__(self) -> None:
        arrays = [np.asarray(self.constant), *map(np.asarray, self.layers)]
        whole = all(np.issubdtype(array.dtype, np.integer) for array in arrays)
        arrays = [array.astype(np.int64 if whole else np.float64) for array in arrays]
        E, P = len(self.space.embed_dims), len(self.space.depths)
        shapes = [(E, P), *((E, P, len(choices)) for choices in self.space.choices)]
        if [array.shape for array in arrays] != shapes:
            raise SpaceError(f"table '{self.name}' must have shapes {shapes}; got {[a.shape for a in arrays]}")
        if not all(np.isfinite(array).all() for array in arrays):
            raise SpaceError(f"table '{self.name}' holds numbers that are not finite")
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
        return cls(
            space,
            name,
            unit,
            np.array([[constant(D, depth) for depth in space.depths] for D in space.embed_dims]),
            tuple(
                np.array(
                    [
                        [[layer(D, heads, ratio, i, depth) for heads, ratio in choices] for depth in space.depths]
                        for D in space.embed_dims
                    ]
                )
                for i, choices in enumerate(space.choices)
            ),
        )

    @property
    def exact(self) -> bool:
        """Whether the table is of integers."""
        return self.constant.dtype == np.int64

    def of(self, subnet: Subnet) -> Number:
        """The quantity of one subnet: an int where the table is exact."""
        return self.of_vectors(self.space.encode(subnet)[None])[0].item()  # type: ignore[no-any-return]

    def of_vectors(self, vectors: npt.ArrayLike) -> Array:
        """The quantity (N,) of N subnets, given as rows of `Space.encode`."""
        rows = np.asarray(vectors, dtype=np.int64)
        e, p = rows[:, 0], rows[:, 1]
        total: Array = self.constant[e, p].copy()
        for layer, terms in enumerate(self.layers):
            heads, ratio = rows[:, 2 + 2 * layer], rows[:, 3 + 2 * layer]
            kept = self._keeps[layer][p]
            choice = np.where(kept, heads * len(self.space.ffn_ratios[layer]) + ratio, 0)
            total += np.where(kept, terms[e, p, choice], 0)
        return total

    @cached_property
    def _keeps(self) -> Array:
        """(layers, P): whether a depth keeps a layer."""
        kept = self.space.depth_map.values()
        return np.array([[layer in layers for layers in kept] for layer in range(len(self.layers))])

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


@dataclass(frozen=True, eq=False)
class _Trellis:
    """States of one (embed dim, depth): `moves[i]` (states, C) is the state after a choice in kept layer i, or -1."""

    e: int
    p: int
    kept: tuple[int, ...]
    moves: tuple[Array, ...]

    @property
    def alive(self) -> bool:
        """Whether any path keeps all limits together."""
        return bool(self.counts(bool)[0][0])

    def counts(self, dtype: type) -> list[Array]:
        """Completions of each state, before each kept layer and after the last."""
        counts: list[Array] = [np.ones(1, dtype=dtype)]
        for moves in reversed(self.moves):
            after = np.append(counts[0], np.zeros(1, dtype=dtype))  # index -1: no completion
            counts.insert(0, after[moves].sum(1, dtype=dtype))
        return counts


class Feasible:
    """The subnets of a space that keep every limit: table <= number. Without limits, the whole space.

    Methods that need a subnet raise `InfeasibleError`, naming the nearest that is possible, where there is none.
    """

    def __init__(self, space: Space, limits: Limits = ()) -> None:
        for table, limit in limits:
            if table.space != space:
                raise SpaceError(f"table '{table.name}' is of space '{table.space.name}', not of '{space.name}'")
            if limit != limit:
                raise SpaceError(f"the limit on {table.name} must be a number; got {limit}")
        self.space, self.limits = space, tuple(limits)

    def contains(self, subnet: Subnet) -> bool:
        """Whether `subnet` is of the space and keeps every limit."""
        return self.space.contains(subnet) and all(table.of(subnet) <= limit for table, limit in self.limits)

    def count(self) -> int:
        """How many subnets keep the limits."""
        return sum(int(counts[0][0]) for counts in self._counts)

    def sample(self, rng: np.random.Generator, n: int = 1) -> list[Subnet]:
        """`n` independent draws, each subnet that keeps the limits with the same probability."""
        total = self.count()
        if not total:
            raise self._impossible()
        return self._unrank(_integers_below(rng, total, n))

    def best(self, table: AdditiveTable, maximize: bool = True) -> Subnet:
        """The subnet with the greatest (or least) value of `table`."""
        sign = 1 if maximize else -1
        best: tuple[Number, _Trellis, list[Array]] | None = None
        for trellis in self._trellises:
            values = _values(trellis, table, sign)
            root = values[0][0] + sign * table.constant[trellis.e, trellis.p]
            if best is None or root > best[0]:
                best = (root, trellis, values)
        if best is None:
            raise self._impossible()
        _, trellis, values = best
        state, choices = 0, []
        for i, layer in enumerate(trellis.kept):
            gains = (
                sign * table.layers[layer][trellis.e, trellis.p]
                + np.append(values[i + 1], _lowest(table))[trellis.moves[i][state]]
            )
            gains = np.where(trellis.moves[i][state] < 0, _lowest(table), gains)
            choices.append(int(gains.argmax()))
            state = int(trellis.moves[i][state, choices[-1]])
        return self._subnet(trellis, choices)

    def cheapest(self, table: AdditiveTable) -> Subnet:
        """The subnet with the least value of `table`."""
        return self.best(table, maximize=False)

    def front(self, cost: AdditiveTable, score: AdditiveTable, maximize: bool = True) -> list[FrontPoint]:
        """The exact Pareto front of `cost` (minimised) against `score`, in rising order of cost."""
        sign = 1 if maximize else -1
        paths = [(trellis, _labels(trellis, cost, score, sign)) for trellis in self._trellises]
        if not paths:
            raise self._impossible()
        a = np.concatenate([steps[-1].cost for _, steps in paths])
        b = np.concatenate([steps[-1].score for _, steps in paths])
        owner = np.repeat(np.arange(len(paths)), [len(steps[-1].cost) for _, steps in paths])
        place = np.concatenate([np.arange(len(steps[-1].cost)) for _, steps in paths])
        points = []
        for i in _undominated(np.zeros_like(owner), a, b):
            trellis, steps = paths[owner[i]]
            choices, at = [], int(place[i])
            for step in reversed(steps[1:]):
                choices.append(int(step.choice[at]))
                at = int(step.parent[at])
            points.append(FrontPoint(self._subnet(trellis, choices[::-1]), a[i].item(), (sign * b[i]).item()))
        return points

    # ---------------------------------------------------------------- the trellises

    @cached_property
    def _trellises(self) -> list[_Trellis]:
        """One for each (embed dim, depth) in which something fits."""
        quanta = [1 if table.exact else 0 for table, _ in self.limits]
        coarser = 1
        while True:
            built = self._build(quanta, coarser)
            if built is not None:
                return built
            coarser *= 2

    def _build(self, exact: Sequence[int], coarser: int) -> list[_Trellis] | None:
        """The trellises, or None where they need too many states at this coarseness."""
        combinations = []
        for e in range(len(self.space.embed_dims)):
            for p, kept in enumerate(self.space.depth_map.values()):
                slack = [limit - _least(table, e, p, kept) for table, limit in self.limits]
                if all(left >= 0 for left in slack):
                    combinations.append((e, p, kept, slack))
        quantum = []
        for k, (table, _) in enumerate(self.limits):
            slackest = max((float(slack[k]) for *_, slack in combinations), default=0.0)
            spread = max((_spread(table, e, p, kept) for e, p, kept, _ in combinations), default=0.0)
            grid = max(min(slackest, float(spread)), 1e-300) * coarser / _QUANTA
            if table.exact:
                mixed = not all(exact)
                grid = 1 if mixed or coarser == 1 else max(1, int(grid))
            quantum.append(grid)
        trellises = []
        for e, p, kept, slack in combinations:
            trellis = self._expand(e, p, kept, slack, quantum)
            if trellis is None:
                return None
            if trellis.alive:
                trellises.append(trellis)
        return trellises

    def _expand(
        self, e: int, p: int, kept: tuple[int, ...], slack: Sequence[Number], quantum: Sequence[Number]
    ) -> _Trellis | None:
        residuals, start = [], []
        for (table, _), left, q in zip(self.limits, slack, quantum, strict=True):
            rows = [table.layers[layer][e, p] - table.layers[layer][e, p].min() for layer in kept]
            if table.exact:
                rows = [-(-row // int(q)) for row in rows]
                most = sum(int(row.max()) for row in rows)
                start.append(min(most, int(left // int(q))))
            else:
                rows = [np.ceil(row / q * (1 - 1e-12)).astype(np.int64) for row in rows]
                most = sum(int(row.max()) for row in rows)
                start.append(int(min(most, left / q * (1 - 1e-9))))
            residuals.append(rows)
        states = np.array([start], dtype=np.int64).reshape(1, len(start))
        moves = []
        for i, layer in enumerate(kept):
            terms = np.array([rows[i] for rows in residuals], dtype=np.int64)
            terms = terms.reshape(len(start), len(self.space.choices[layer])).T
            rest = np.array([sum(int(row.max()) for row in rows[i + 1 :]) for rows in residuals], dtype=np.int64)
            after = states[:, None, :] - terms[None]
            fits = (after >= 0).all(-1)
            after = np.minimum(after[fits], rest)
            unique, inverse = _unique_rows(after, rest)
            if len(unique) > MOST_STATES:
                return None
            move = np.full(fits.shape, -1, dtype=np.int64)
            move[fits] = inverse
            moves.append(move)
            states = unique
        return _Trellis(e, p, kept, tuple(moves))

    @cached_property
    def _counts(self) -> list[list[Array]]:
        dtype = np.int64 if self.space.size < 1 << 62 else object
        return [trellis.counts(dtype) for trellis in self._trellises]

    def _unrank(self, ranks: Array) -> list[Subnet]:
        """The subnets with these numbers, in the order of trellis, then choices layer by layer."""
        subnets: list[Subnet | None] = [None] * len(ranks)
        first = 0
        for trellis, counts in zip(self._trellises, self._counts, strict=True):
            total = int(counts[0][0])
            mine = np.flatnonzero((ranks >= first) & (ranks < first + total))
            rank, state = ranks[mine] - first, np.zeros(len(mine), dtype=np.int64)
            first += total
            columns = []
            for moves, after in zip(trellis.moves, counts[1:], strict=True):
                ways = np.append(after, np.zeros(1, dtype=after.dtype))[moves]
                ends = np.cumsum(ways, axis=1)[state]
                choice = (ends <= rank[:, None]).sum(1)
                rank = rank - np.where(choice > 0, ends[np.arange(len(mine)), np.maximum(choice - 1, 0)], 0)
                state = moves[state, choice]
                columns.append(choice)
            for i, choices in zip(
                mine.tolist(), zip(*(column.tolist() for column in columns), strict=True), strict=True
            ):
                subnets[i] = self._subnet(trellis, choices)
        return [subnet for subnet in subnets if subnet is not None]

    def _subnet(self, trellis: _Trellis, choices: Iterable[int]) -> Subnet:
        pairs = [self.space.choices[layer][c] for layer, c in zip(trellis.kept, choices, strict=True)]
        heads, ratios = zip(*pairs, strict=True)
        return Subnet._trusted(self.space.embed_dims[trellis.e], heads, ratios)

    def _impossible(self) -> InfeasibleError:
        """What is the nearest possible, in one line."""
        for table, limit in self.limits:
            subnet = table.cheapest()
            if table.of(subnet) > limit:
                return InfeasibleError(
                    f"no subnet of '{self.space.name}' keeps {table.name}<={_said(limit)}; "
                    f"the smallest has {_said(table.of(subnet))} {table.unit} (subnet {subnet.to_json()})"
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


# -------------------------------------------------------------------- passes


class _Step(NamedTuple):
    """Undominated partial sums after a layer: their state, cost, score, and the label and choice they came from."""

    state: Array
    cost: Array
    score: Array
    parent: Array
    choice: Array


def _labels(trellis: _Trellis, cost: AdditiveTable, score: AdditiveTable, sign: int) -> list[_Step]:
    """Label-correcting forward pass: Pareto sets of (cost, score) for each state."""
    e, p = trellis.e, trellis.p
    zero = np.zeros(1, dtype=np.int64)
    steps = [_Step(zero, cost.constant[e, p][None], sign * score.constant[e, p][None], zero, zero)]
    for layer, moves in zip(trellis.kept, trellis.moves, strict=True):
        last = steps[-1]
        to = moves[last.state]
        a = last.cost[:, None] + cost.layers[layer][e, p]
        b = last.score[:, None] + sign * score.layers[layer][e, p]
        parent, choice = np.nonzero(to >= 0)
        to, a, b = to[parent, choice], a[parent, choice], b[parent, choice]
        keep = _undominated(to, a, b)
        steps.append(_Step(to[keep], a[keep], b[keep], parent[keep], choice[keep]))
    return steps


def _undominated(group: Array, cost: Array, score: Array) -> Array:
    """Indices of the Pareto set (least cost, greatest score) of each group, by group and rising cost."""
    order = np.lexsort((-score, cost, group))
    rank = np.unique(score, return_inverse=True)[1].reshape(-1)[order]
    key = group[order] * (len(score) + 1) + rank  # a later group beats all of the one before
    best_before = np.concatenate(([-1], np.maximum.accumulate(key)[:-1]))
    return order[key > best_before]


def _values(trellis: _Trellis, table: AdditiveTable, sign: int) -> list[Array]:
    """Best completion of each state by `sign` * table, before each kept layer and after the last."""
    values = [np.zeros(1, dtype=table.constant.dtype)]
    for layer, moves in zip(reversed(trellis.kept), reversed(trellis.moves), strict=True):
        terms = sign * table.layers[layer][trellis.e, trellis.p]
        totals = np.where(moves < 0, _lowest(table), terms + values[0][moves])
        values.insert(0, totals.max(1))
    return values


def _lowest(table: AdditiveTable) -> Number:
    return -(1 << 62) if table.exact else -np.inf


def _said(value: Number) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _least(table: AdditiveTable, e: int, p: int, kept: tuple[int, ...]) -> Number:
    least = table.constant[e, p].item()
    for layer in kept:
        least += table.layers[layer][e, p].min().item()
    return least  # type: ignore[no-any-return]


def _spread(table: AdditiveTable, e: int, p: int, kept: tuple[int, ...]) -> Number:
    return float(sum(np.ptp(table.layers[layer][e, p]) for layer in kept))


def _unique_rows(rows: Array, most: Array) -> tuple[Array, Array]:
    """Distinct rows (each entry 0..most) and where each row went, by one number for each row."""
    if not rows.shape[1]:
        return rows[:1], np.zeros(len(rows), dtype=np.int64)
    scale = np.ones(len(most), dtype=object)
    for i in range(len(most) - 1, 0, -1):
        scale[i - 1] = scale[i] * (int(most[i]) + 1)
    if scale[0] * (int(most[0]) + 1) < 1 << 62:
        _, index, inverse = np.unique(rows @ scale.astype(np.int64), return_index=True, return_inverse=True)
        return rows[index], inverse.reshape(-1)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    return unique, inverse.reshape(-1)


def _integers_below(rng: np.random.Generator, total: int, n: int) -> Array:
    """`n` integers uniform in [0, total), of any size."""
    if total < 1 << 62:
        return rng.integers(total, size=n)
    width = total.bit_length()
    drawn: list[int] = []
    while len(drawn) < n:
        value = int.from_bytes(rng.bytes(-(-width // 8)), "big") >> (-width % 8)
        if value < total:
            drawn.append(value)
    return np.array(drawn, dtype=object)
