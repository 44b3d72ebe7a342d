"""Optimal paths through trellises: subnets in falling order of a table, and Pareto fronts of two.

A path is a subnet: one choice for each kept layer. Its value is a constant plus a term for each choice plus, where the
table is a `ChainTable`, a term for each two neighbouring choices. A node is therefore a state of the trellis (see
`trellis`) joined, where such a pair follows, by the choice before it (Viterbi).

`ranked` is an A* search whose estimate, the best completion of every node, is exact: no more is opened than the paths
that are taken from it, and for each of their choices the next best.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from search_spaces.trellis import Table, Trellis
from search_spaces.types import Array, Number

__all__ = ["front", "ranked", "undominated_by_group"]


class _Scored:
    """A trellis with a table on it, in the table's own numbers, the sign turned so that more is better.

    `rest[i]`: the best that kept layers i and on can give, (states, C of the layer before), or (states, 1) where no
    pair leads to layer i. `onward[i]` (states, C): the same for each choice in layer i, without the pair leading to it.
    """

    def __init__(self, trellis: Trellis, table: Table, sign: int) -> None:
        e, p, kept = trellis.e, trellis.p, trellis.kept
        self.trellis = trellis
        self.constant = sign * table.constant[e, p]
        self.terms = [sign * table.layers[layer][e, p] for layer in kept]
        self.links = [None, *(None if link is None else sign * link for link in table.links(kept))]
        lowest = -(1 << 62) if table.exact else -np.inf
        self.rest = [np.zeros((1, 1), dtype=table.constant.dtype)]
        self.onward: list[Array] = []
        self._options: dict[tuple[int, int, int], list[_Option]] = {}
        for moves, terms, link in zip(trellis.moves[::-1], self.terms[::-1], self.links[::-1], strict=True):
            after = self.rest[0]
            column = np.arange(len(terms)) if after.shape[1] > 1 else 0
            onward = np.where(moves < 0, lowest, terms + after[moves, column])
            self.onward.insert(0, onward)
            self.rest.insert(0, onward.max(1, keepdims=True) if link is None else (onward[:, None] + link).max(2))

    def options(self, i: int, state: int, before: int) -> list[_Option]:
        """The choices in kept layer i that can be completed, the best with all that follows first."""
        link = self.links[i]
        key = (i, state, 0 if link is None else before)
        if key not in self._options:
            led: Any = 0 if link is None else link[before]
            onward, added = (self.onward[i][state] + led).tolist(), (self.terms[i] + led).tolist()
            rows = zip(onward, added, count(), self.trellis.moves[i][state].tolist())
            self._options[key] = sorted((_Option(*row) for row in rows if row[3] >= 0), reverse=True)
        return self._options[key]


class _Option(NamedTuple):
    """A choice in a layer: the best that it and all that follows can add, what it adds itself, and where it leads."""

    onward: Number
    added: Number
    choice: int
    after: int


def ranked(trellises: Sequence[Trellis], table: Table, sign: int) -> Iterator[tuple[Trellis, tuple[int, ...]]]:
    """All paths, as a trellis and its choices, in falling order of `sign` * table. Take as many as you need."""
    tie = count()  # of equal ones the latest is opened first, which leads to the end
    heap: list[Any] = []

    def push(each: _Scored, options: list[_Option], number: int, reached: Number, choices: tuple[int, ...]) -> None:
        if number < len(options):
            bound = reached + options[number].onward
            heapq.heappush(heap, (-bound, -next(tie), each, options, number, reached, choices))

    for each in (_Scored(trellis, table, sign) for trellis in trellises):
        push(each, each.options(0, 0, 0), 0, each.constant.item(), ())
    while heap:
        _, _, each, options, number, reached, before = heapq.heappop(heap)
        push(each, options, number + 1, reached, before)
        _, added, choice, after = options[number]
        choices = (*before, choice)
        if len(choices) == len(each.terms):
            yield each.trellis, choices
        else:
            push(each, each.options(len(choices), after, choice), 0, reached + added, choices)


class _Step(NamedTuple):
    """Undominated partial sums after a layer: their node, cost, score, and the label and choice they came from."""

    state: Array
    cost: Array
    score: Array
    parent: Array
    choice: Array


def front(
    trellises: Sequence[Trellis], cost: Table, score: Table, sign: int
) -> Iterator[tuple[Trellis, list[int], Number, Number]]:
    """The Pareto front of `cost` (least) against `sign` * `score` (greatest), in rising order of cost."""
    labels = [_labels(trellis, cost, score, sign) for trellis in trellises]
    a = np.concatenate([steps[-1].cost for steps in labels])
    b = np.concatenate([steps[-1].score for steps in labels])
    owner = np.repeat(np.arange(len(labels)), [len(steps[-1].cost) for steps in labels])
    place = np.concatenate([np.arange(len(steps[-1].cost)) for steps in labels])
    for i in undominated_by_group(np.zeros_like(owner), a, b):
        steps, choices, at = labels[owner[i]], [], int(place[i])
        for step in reversed(steps[1:]):
            choices.append(int(step.choice[at]))
            at = int(step.parent[at])
        yield trellises[owner[i]], choices[::-1], a[i].item(), sign * b[i].item()


def _labels(trellis: Trellis, cost: Table, score: Table, sign: int) -> list[_Step]:
    """Label-correcting forward pass: Pareto sets of (cost, score) for each node."""
    e, p, kept = trellis.e, trellis.p, trellis.kept
    links = score.links(kept)
    zero = np.zeros(1, dtype=np.int64)
    steps = [_Step(zero, cost.constant[e, p][None], sign * score.constant[e, p][None], zero, zero)]
    for layer, moves, link, onward in zip(kept, trellis.moves, [None, *links], [*links, None], strict=True):
        last = steps[-1]
        to = moves[last.state]
        a = last.cost[:, None] + cost.layers[layer][e, p]
        b = last.score[:, None] + sign * score.layers[layer][e, p]
        if link is not None:
            b = b + sign * link[last.choice]
        parent, choice = np.nonzero(to >= 0)
        to, a, b = to[parent, choice], a[parent, choice], b[parent, choice]
        keep = undominated_by_group(to if onward is None else to * moves.shape[1] + choice, a, b)
        steps.append(_Step(to[keep], a[keep], b[keep], parent[keep], choice[keep]))
    return steps


def undominated_by_group(group: Array, cost: Array, score: Array) -> Array:
    """Indices of the Pareto set (least cost, greatest score) of each group, by group and rising cost."""
    order = np.lexsort((-score, cost, group))
    rank = np.unique(score, return_inverse=True)[1].reshape(-1)[order]
    key = group[order] * (len(score) + 1) + rank  # a later group beats all of the one before
    best_before = np.concatenate(([-1], np.maximum.accumulate(key)[:-1]))
    return order[key > best_before]
