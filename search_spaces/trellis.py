"""The trellis of a space under limits, as arrays: counted, and drawn from, by dynamic programming.

One trellis for each embed dim and depth. A state is what a subnet's first layers spend of each limit. Under one
limit every state that leaves enough for the cheapest rest can be completed; under several, whose cheapest choices
differ, some states are dead ends, which have no completions to count. Spending so little that even the dearest rest
fits is raised to the most for which that holds, so that equal futures are one state. Params and MACs have few
distinct sums (about 600 in LightHuBERT's small space), hence few states.

Rounding. Sums are those of `AdditiveTable.of_vectors` to the last bit, so counts are exact while sums are few. When a
layer has over `MAX_SUMS` distinct sums of a real-valued table, or over `MAX_STATES` states, neighbouring sums become
one, of the limit with the most of them first. They become the GREATEST of them: a limit is never broken, and a subnet
is left out only if it is nearer to a limit than it was rounded by. What each state spends still leaves enough for
its cheapest rest, so whether anything fits under one limit is exact for every table; and a limit that all subnets of
an embed dim and depth keep has no part in their trellis, so it leaves out none of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from search_spaces.types import Array, Number

__all__ = ["Account", "Table", "Trellis", "build_trellis", "integers_below", "unranked"]


MAX_STATES = 1 << 16
MAX_SUMS = 1 << 11


class Table(Protocol):
    """An additive table, as arrays: a constant for each (embed dim, depth) and terms for each layer's choices."""

    @property
    def constant(self) -> Array: ...

    @property
    def layers(self) -> tuple[Array, ...]: ...

    @property
    def exact(self) -> bool: ...

    def links(self, kept: Sequence[int]) -> list[Array | None]: ...


@dataclass(frozen=True, eq=False)
class Trellis:
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


class Account(NamedTuple):
    """One limit in one (embed dim, depth): the constant, then the terms (C,) of each kept layer.

    Before each kept layer and after the last, `most` may be spent: the cheapest rest fits; and at `free` any does.
    """

    start: Number
    terms: list[Array]
    most: list[Number]
    free: list[Number]

    @classmethod
    def of(cls, table: Table, limit: Number, e: int, p: int, kept: tuple[int, ...]) -> Account:
        start, terms = table.constant[e, p].item(), [table.layers[layer][e, p] for layer in kept]
        if table.exact and abs(limit) != math.inf:
            limit = math.floor(limit)
        most = _before(limit, [row.min().item() for row in terms])
        return cls(start, terms, most, _before(limit, [row.max().item() for row in terms]))

    @property
    def fits(self) -> bool:
        return self.start <= self.most[0]

    @property
    def binds(self) -> bool:
        return self.start > self.free[0]

    def spend(self, i: int, before: Array) -> Array:
        """What is spent (states, C) after kept layer i."""
        after: Array = np.maximum(before[:, None] + self.terms[i], self.free[i + 1])
        return after


def _before(limit: Number, terms: list[Number]) -> list[Number]:
    """The most before each of `terms`, and after all, that stays within `limit` when the rest are added in order."""
    most = [limit]
    for term in reversed(terms):
        most.insert(0, _greatest_addend(most[0], term))
    return most


def _greatest_addend(total: Number, term: Number) -> Number:
    """The greatest number that makes at most `total` with `term`: exact for floats too, whose addition rounds."""
    addend = total - term
    if isinstance(addend, int) or math.isinf(total):
        return addend
    # Sums up to half a float above `total` round down to it. The sum here is at most one float too low, so begin above.
    addend = math.nextafter(addend + (math.nextafter(total, math.inf) - total) / 2, math.inf)
    while addend + term > total:
        addend = math.nextafter(addend, -math.inf)
    return addend


def build_trellis(
    limits: Sequence[tuple[Table, Number]], e: int, p: int, kept: tuple[int, ...], choices: Sequence[int]
) -> Trellis | None:
    """The trellis of one (embed dim, depth), or None if nothing fits; `choices[l]`: how many layer l has."""
    accounts = [Account.of(table, limit, e, p, kept) for table, limit in limits]
    if not all(account.fits for account in accounts):
        return None
    accounts = [account for account in accounts if account.binds]
    spent = [np.array([account.start]) for account in accounts]
    states, moves = 1, []
    for i, layer in enumerate(kept):
        fits = np.ones((states, choices[layer]), dtype=bool)
        sums = [account.spend(i, before) for account, before in zip(accounts, spent, strict=True)]
        for account, after in zip(accounts, sums, strict=True):
            fits &= after <= account.most[i + 1]
        if not fits.any():
            return None
        move = np.full(fits.shape, -1, dtype=np.int64)
        spent, move[fits] = _merged([after[fits] for after in sums], int(fits.sum()))
        states = int(move.max()) + 1
        moves.append(move)
    trellis = Trellis(e, p, kept, tuple(moves))
    return trellis if trellis.alive else None


def unranked(
    trellises: Sequence[Trellis], counts: Sequence[list[Array]], ranks: Array
) -> Iterator[tuple[int, Trellis, tuple[int, ...]]]:
    """(index, trellis, choices) of each of the paths with these numbers, in the order of trellis, then choices."""
    first = 0
    for trellis, own in zip(trellises, counts, strict=True):
        total = int(own[0][0])
        mine = np.flatnonzero((ranks >= first) & (ranks < first + total))
        rank, state = ranks[mine] - first, np.zeros(len(mine), dtype=np.int64)
        first += total
        columns = []
        for moves, after in zip(trellis.moves, own[1:], strict=True):
            ways = np.append(after, np.zeros(1, dtype=after.dtype))[moves]
            ends = np.cumsum(ways, axis=1)[state]
            choice = (ends <= rank[:, None]).sum(1)
            rank = rank - np.where(choice > 0, ends[np.arange(len(mine)), np.maximum(choice - 1, 0)], 0)
            state = moves[state, choice]
            columns.append(choice)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for i, choices in zip(mine.tolist(), rows, strict=True):
            yield i, trellis, choices


def _merged(sums: list[Array], rows: int) -> tuple[list[Array], Array]:
    """At most `MAX_STATES` states, each the greatest of the sums it stands for (one a limit); and each row's state."""
    columns = [_few(_ranks(c), MAX_SUMS) if c.dtype == np.float64 else c - c.min() for c in sums]
    order, new = _sorted(columns, rows)
    if (states := int(new.sum())) > MAX_STATES:
        ranks, most = [_ranks(column) for column in columns], MAX_SUMS
        while states > MAX_STATES:
            order, new = _sorted([_few(rank, most) for rank in ranks], rows)
            states = int(new.sum())
            most = int(most * min(0.9, (MAX_STATES / states) ** (1 / len(ranks))))
    state = np.empty(rows, dtype=np.int64)
    state[order] = new.cumsum() - 1
    return [np.maximum.reduceat(column[order], np.flatnonzero(new)) for column in sums], state


def _sorted(columns: list[Array], rows: int) -> tuple[Array, Array]:
    """An order in which rows equal in all columns (of whole numbers >= 0) are neighbours; and where others begin."""
    keys = np.zeros(rows, dtype=np.int64)
    for column in columns:
        if (int(keys.max()) + 1) * (int(column.max()) + 1) >= 1 << 62:
            keys, column = _ranks(keys), _ranks(column)
        keys = keys * (column.max() + 1) + column
    order = keys.argsort()
    return order, np.diff(keys[order], prepend=-1) > 0


def _ranks(column: Array) -> Array:
    return np.unique(column, return_inverse=True)[1]


def _few(ranks: Array, most: int) -> Array:
    """At most `most` ranks, neighbours made one; the least stays alone, as it may be the sum at which any rest fits."""
    greatest = int(ranks.max())
    if greatest < most:
        return ranks
    return -(-ranks // -(-greatest // (most - 1))) if most > 1 else np.zeros_like(ranks)


def integers_below(rng: np.random.Generator, total: int, n: int) -> Array:
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
