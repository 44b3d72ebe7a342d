"""All subnets of one embed dim and depth that keep limits on sums over their layers, as a trellis. Arrays only.

A path through a trellis is a subnet: one choice for each kept layer. A state stands for what the choices so far have
spent of each limit. With one limit, every state that leaves enough for the cheapest remaining layers can be completed.
With several limits, whose cheapest choices may differ, some states are dead ends: they have no completions. If a state
has spent so little that even the most expensive remaining layers fit, its spending is raised to the largest amount for
which that holds, so that states with the same future become one state. Parameters and MACs have few distinct sums
(about 600 in LightHuBERT's small space), hence few states.

Rounding. Terms are added in the same order as in `AdditiveTable.of_vectors`, so sums are equal to the last bit and
counts are exact as long as there are few sums. If a layer has more than `MAX_SUMS` distinct sums of a real-valued
table, or more than `MAX_STATES` states (fewer where layers and choices are many: `MAX_MOVES`), neighbouring sums are
merged, first those of the limit that has the most of them. Merged sums are rounded up to the GREATEST of them: a limit
is never broken, and a subnet is left out only if it is closer to a limit than it was rounded. Each state still leaves
enough for its cheapest completion, so under one limit it is exact for every table whether any subnet fits. A limit that
all subnets of an embed dim and depth keep is not part of their trellis, so it leaves none of them out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from search_spaces.types import Array, Number

__all__ = ["Counts", "MAX_MOVES", "MAX_STATES", "MAX_SUMS", "Terms", "Trellis", "uniform_ranks", "unrank"]

MAX_STATES = 1 << 16
MIN_STATES = 1 << 10
MAX_MOVES = (
    1 << 24
)  # of a whole trellis: bounds time and memory where layers and choices are many (64 x 32: 8,192 states)
MAX_SUMS = 1 << 11
MAX_RANGE = 1 << 22  # of sums that are found by a table instead of by sorting
_LIMB = 45


class Terms(NamedTuple):
    """A quantity of the subnets of one embed dim and depth: the sum of the constant and of one term for each choice.

    `layers[i]` (C,) are the terms of kept layer i; `links[i]` (C, C') is what each choice in kept layer i adds together
    with each choice in the next, or None.
    """

    constant: np.int64 | np.float64
    layers: Sequence[Array]
    links: Sequence[Array | None]

    @property
    def exact(self) -> bool:
        """Whether the terms are integers."""
        return isinstance(self.constant, np.int64)


@dataclass(frozen=True, eq=False)
class Trellis:
    """The states of one (embed dim, depth).

    `e`, `p`: indices of the embed dim and the depth. `kept`: the layers of the supernet that this depth keeps.
    `moves[i]` (states, C): the state after each choice in kept layer i, or -1 if a limit forbids the choice.
    """

    e: int
    p: int
    kept: tuple[int, ...]
    moves: tuple[Array, ...]

    @classmethod
    def build(
        cls,
        e: int,
        p: int,
        kept: tuple[int, ...],
        num_choices: Sequence[int],
        limits: Sequence[tuple[Terms, Number]],
        max_moves: int = MAX_MOVES,
    ) -> Trellis | None:
        """The trellis of all subnets that keep the limits (terms <= number), or None if there are none."""
        accounts = [_Account.of(terms, limit) for terms, limit in limits]
        if not all(account.fits for account in accounts):
            return None
        accounts = [account for account in accounts if account.binds]
        spent = [np.array([account.start]) for account in accounts]
        states, moves = 1, []
        most_states = max(MIN_STATES, min(MAX_STATES, max_moves // sum(num_choices)))
        for i, C in enumerate(num_choices):
            fits = np.ones((states, C), dtype=bool)
            sums = [account.spend(i, before) for account, before in zip(accounts, spent, strict=True)]
            for account, after in zip(accounts, sums, strict=True):
                fits &= after <= account.most[i + 1]
            if not fits.any():
                return None
            move = np.full(fits.shape, -1, dtype=np.int64)
            spent, move[fits] = _merge([after[fits] for after in sums], int(fits.sum()), most_states)
            states = int(move.max()) + 1
            moves.append(move)
        trellis = cls(e, p, kept, tuple(moves))
        return trellis if len(accounts) < 2 or trellis.has_paths else None

    @classmethod
    def restricted(
        cls,
        e: int,
        p: int,
        kept: tuple[int, ...],
        num_choices: Sequence[int],
        limits: Sequence[tuple[Terms, Number]],
        only: Sequence[int | None],
    ) -> Trellis | None:
        """The same with one choice in each layer, given by its index; None leaves a layer all of its choices."""
        at = [slice(None) if choice is None else slice(choice, choice + 1) for choice in only]
        own = [
            (Terms(terms.constant, [row[part] for row, part in zip(terms.layers, at, strict=True)], ()), limit)
            for terms, limit in limits
        ]
        sizes = [size if choice is None else 1 for size, choice in zip(num_choices, only, strict=True)]
        small = cls.build(e, p, kept, sizes, own)
        if small is None:
            return None
        moves = [np.full((len(move), size), -1) for move, size in zip(small.moves, num_choices, strict=True)]
        for whole, part, move in zip(moves, at, small.moves, strict=True):
            whole[:, part] = move
        return cls(e, p, kept, tuple(moves))

    @property
    def has_paths(self) -> bool:
        """Whether any path keeps all limits together."""
        reached = np.array([True, False])  # the last entry, index -1: no completion
        for moves in reversed(self.moves):
            reached = np.append(reached[moves].any(1), False)
        return bool(reached[0])

    def counts(self, most: int) -> Counts:
        """Number of completions of each state; none is over `most`."""
        return Counts.of(self.moves, most)


@dataclass(frozen=True, eq=False)
class Counts:
    """Numbers of completions of the states before each kept layer and after the last, exact however large.

    Each is a sum of `limbs[i][k] * 2^(_LIMB k)`, arrays (limbs, states + 1): the last state, index -1, stands for no
    completion. One limb holds whole int64 numbers.
    """

    limbs: list[Array]

    @classmethod
    def of(cls, moves: Sequence[Array], most: int) -> Counts:
        """Of a trellis with these moves."""
        width = 1 if most < 1 << 62 else most.bit_length() // _LIMB + 1
        after = np.zeros((width, 2), dtype=np.int64)
        after[0, 0] = 1
        limbs = [after]
        for move in reversed(moves):
            sums = np.zeros((width, len(move) + 1), dtype=np.int64)
            for k in range(width):
                sums[k, :-1] += after[k][move].sum(1)
                if k + 1 < width:
                    sums[k + 1] += sums[k] >> _LIMB
                    sums[k] &= (1 << _LIMB) - 1
            after = sums
            limbs.insert(0, after)
        return cls(limbs)

    @property
    def total(self) -> int:
        """The number of paths."""
        return sum(int(limb[0]) << (_LIMB * k) for k, limb in enumerate(self.limbs[0]))

    def after(self, i: int, states: Array) -> Array:
        """The numbers for states (any shape) after kept layer i; Python integers if one limb is not enough."""
        limbs = self.limbs[i + 1]
        if len(limbs) == 1:
            plain: Array = limbs[0][states]
            return plain
        parts = (limb[states].astype(object) * (1 << (_LIMB * k)) for k, limb in enumerate(limbs))
        return sum(parts, np.zeros(states.shape, dtype=object))


# -------------------------------------------------------------------- drawing


def uniform_ranks(rng: np.random.Generator, totals: Sequence[int], n: int, balanced: bool = False) -> Array:
    """`n` uniform draws from all paths, numbered trellis by trellis; `totals` are the paths of each trellis.

    `balanced`: each trellis with the same probability, then uniform within it.
    """
    if not balanced:
        return _integers_below(rng, sum(totals), n)
    firsts = list(accumulate(totals, initial=0))
    which = rng.integers(len(totals), size=n).tolist()
    return np.array([firsts[k] + int(_integers_below(rng, totals[k], 1)[0]) for k in which])


def unrank(
    trellises: Sequence[Trellis], counts: Sequence[Counts], ranks: Array
) -> Iterator[tuple[Trellis, Array, list[Array]]]:
    """The paths with these numbers, as (trellis, indices (N,) into `ranks`, choices (N,) in each kept layer).

    Paths are numbered by trellis, then by the choices layer by layer. `counts[k]` is `trellises[k].counts`.
    """
    first = 0
    for trellis, completions in zip(trellises, counts, strict=True):
        total = completions.total
        mine = np.flatnonzero((ranks >= first) & (ranks < first + total))
        rank, state = ranks[mine] - first, np.zeros(len(mine), dtype=np.int64)
        first += total
        columns = []
        for i, moves in enumerate(trellis.moves):
            ends = np.cumsum(completions.after(i, moves[state]), axis=1)
            choice = (ends <= rank[:, None]).sum(1)
            rank = rank - np.where(choice > 0, ends[np.arange(len(mine)), np.maximum(choice - 1, 0)], 0)
            state = moves[state, choice]
            columns.append(choice)
        yield trellis, mine, columns


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


# -------------------------------------------------------------------- limits


class _Account(NamedTuple):
    """One limit: the constant, then the terms (C,) of each kept layer.

    Entry i of `most` is the most that may be spent before kept layer i (the last entry: after all layers) so that the
    cheapest remaining layers fit; entry i of `free`, so that any remaining layers fit.
    """

    start: Number
    terms: Sequence[Array]
    most: list[Number]
    free: list[Number]

    @classmethod
    def of(cls, terms: Terms, limit: Number) -> _Account:
        if terms.exact and abs(limit) != math.inf:
            return cls._scaled(terms, math.floor(limit))
        most = _max_spent(limit, [row.min().item() for row in terms.layers])
        free = _max_spent(limit, [row.max().item() for row in terms.layers])
        return cls(terms.constant.item(), terms.layers, most, free)

    @classmethod
    def _scaled(cls, terms: Terms, limit: int) -> _Account:
        """Of integers: above the cheapest choice of each layer, in units of their greatest common divisor.

        So the sums are small numbers, and there are few of them.
        """
        lows = [int(row.min()) for row in terms.layers]
        rest = limit - int(terms.constant) - sum(lows)
        over = [row - low for row, low in zip(terms.layers, lows, strict=True)]
        unit = int(np.gcd.reduce(np.concatenate(over))) or 1
        own = [row // unit for row in over]
        most = _max_spent(rest // unit, [0] * len(own))
        free = _max_spent(rest // unit, [int(row.max()) for row in own])
        return cls(0, own, most, free)

    @property
    def fits(self) -> bool:
        """Whether any subnet keeps the limit."""
        return self.start <= self.most[0]

    @property
    def binds(self) -> bool:
        """Whether any subnet breaks the limit."""
        return self.start > self.free[0]

    def spend(self, i: int, before: Array) -> Array:
        """What is spent (states, C) after kept layer i."""
        after: Array = np.maximum(before[:, None] + self.terms[i], self.free[i + 1])
        return after


def _max_spent(limit: Number, terms: Sequence[Number]) -> list[Number]:
    """The most before each of `terms`, and after all, that stays within `limit` if the rest are added in order."""
    most = [limit]
    for term in reversed(terms):
        most.insert(0, _greatest_addend(most[0], term))
    return most


def _greatest_addend(total: Number, term: Number) -> Number:
    """The greatest number whose sum with `term` is at most `total`: exact for floats too, whose addition rounds."""
    addend = total - term
    if isinstance(addend, int) or math.isinf(total):
        return addend
    # Sums up to half a float above `total` round down to it. `total - term` is at most one float too low, so the search
    # starts above it.
    addend = math.nextafter(addend + (math.nextafter(total, math.inf) - total) / 2, math.inf)
    while addend + term > total:
        addend = math.nextafter(addend, -math.inf)
    return addend


# -------------------------------------------------------------------- merging states


def _merge(sums: list[Array], rows: int, most_states: int) -> tuple[list[Array], Array]:
    """(sums of at most `most_states` states, state of each row) of `rows` rows of sums, one column a limit.

    The sum of a state is the greatest of those merged into it.
    """
    if len(sums) == 1 and sums[0].dtype == np.int64 and int(sums[0].max()) - int(sums[0].min()) < MAX_RANGE:
        return _merge_small(sums[0], most_states)
    columns = [_coarsen(_ranks(c), MAX_SUMS) if c.dtype == np.float64 else c - c.min() for c in sums]
    state = _group(columns, rows)
    if (states := int(state.max()) + 1) > most_states:
        ranks, most = [_ranks(column) for column in columns], MAX_SUMS
        while states > most_states:
            state = _group([_coarsen(rank, most) for rank in ranks], rows)
            states = int(state.max()) + 1
            most = int(most * min(0.9, (most_states / states) ** (1 / len(ranks))))
    merged = [np.full(states, column.min()) for column in sums]
    for greatest, column in zip(merged, sums, strict=True):
        np.maximum.at(greatest, state, column)
    return merged, state


def _merge_small(sums: Array, most_states: int) -> tuple[list[Array], Array]:
    """The same for one column of integers in a small range, without sorting."""
    least = int(sums.min())
    at = sums - least
    there = np.zeros(int(at.max()) + 1, dtype=bool)
    there[at] = True
    values = np.flatnonzero(there)
    groups = _coarsen(np.arange(len(values)), most_states)
    rank = np.zeros(len(there), dtype=np.int64)
    rank[values] = groups
    last = np.append(np.flatnonzero(np.diff(groups)), len(groups) - 1)
    return [values[last] + least], rank[at]


def _group(columns: list[Array], rows: int) -> Array:
    """Which group each row is in, of those equal in all columns (integers >= 0); groups are in the columns' order."""
    keys = np.zeros(rows, dtype=np.int64)
    for column in columns:
        if (int(keys.max()) + 1) * (int(column.max()) + 1) >= 1 << 62:
            keys, column = _ranks(keys), _ranks(column)
        keys = keys * (column.max() + 1) + column
    return _ranks(keys)


def _ranks(column: Array) -> Array:
    """The place of each value among the distinct ones; integers >= 0 in a small range are not sorted."""
    if column.dtype != np.int64 or int(column.max()) >= MAX_RANGE:
        return np.unique(column, return_inverse=True)[1]
    there = np.zeros(int(column.max()) + 1, dtype=bool)
    there[column] = True
    rank: Array = there.cumsum()[column] - 1
    return rank


def _coarsen(ranks: Array, most: int) -> Array:
    """At most `most` ranks, by merging neighbours. The least stays alone: it may be the sum that leaves any rest."""
    greatest = int(ranks.max())
    if greatest < most:
        return ranks
    return -(-ranks // -(-greatest // (most - 1))) if most > 1 else np.zeros_like(ranks)
