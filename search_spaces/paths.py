"""Optimal paths through trellises: subnets in falling order of a table, and Pareto fronts of two.

A path is a subnet: one choice for each kept layer. Its value is given by `Terms`: a constant, plus a term for each
choice, plus a term for each two neighbouring choices if the layers are linked (`ChainTable`). A node is therefore a
state of the trellis, together with the choice before it if that choice is linked to the next layer (Viterbi).

`ranked` is an A* search whose estimate, the best completion of every node, is exact: it expands only the paths that
the caller takes and, for each of their choices, the next best.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from search_spaces.trellis import Terms, Trellis
from search_spaces.types import Array, Number

__all__ = ["front", "ranked", "undominated_by_group"]


class _Scored:
    """A trellis with a value on each path: `sign` * terms, so that more is better.

    `rest[i]`: the best that kept layers i and later can add, (states + 1, C of the layer before), or (states + 1, 1) if
    layer i is not linked to the one before. Its last row, which a forbidden choice (-1) leads to, is the lowest value.
    """

    def __init__(self, trellis: Trellis, terms: Terms, sign: int) -> None:
        self.trellis = trellis
        self.constant = sign * terms.constant
        self.terms = [sign * layer for layer in terms.layers]
        self.links = [None, *(None if link is None else sign * link for link in terms.links)]
        lowest = -(1 << 62) if terms.exact else -np.inf
        self.rest = [np.array([[0], [lowest]], dtype=terms.constant.dtype)] * (len(self.terms) + 1)
        self._options: dict[tuple[int, int, int], list[_Option]] = {}
        for i in reversed(range(len(self.terms))):
            onward, link = self._onward(i, slice(None)), self.links[i]
            best = onward.max(1, keepdims=True) if link is None else (onward[:, None] + link).max(2)
            self.rest[i] = np.concatenate([best, np.full_like(best[:1], lowest)])

    def _onward(self, i: int, state: int | slice) -> Array:
        """(C,) or (states, C): what each choice in kept layer i adds with its best completion, but for its link."""
        added, moves, after = self.terms[i], self.trellis.moves[i][state], self.rest[i + 1]
        if after.shape[1] > 1:
            return added + after[moves, np.arange(len(added))]  # type: ignore[no-any-return]
        onward: Array = after[:, 0].take(moves, mode="wrap")
        onward += added  # in place: these arrays are large
        return onward

    def options(self, i: int, state: int, before: int) -> list[_Option]:
        """The choices in kept layer i that can be completed, best first, each counted with its best completion."""
        link = self.links[i]
        key = (i, state, 0 if link is None else before)
        if key not in self._options:
            linked = 0 if link is None else link[before]
            onward, added, after = self._onward(i, state) + linked, self.terms[i] + linked, self.trellis.moves[i][state]
            order = np.lexsort((added, onward))[::-1]  # of equals the last choice first
            order = order[after[order] >= 0]
            columns = (each.tolist() for each in (onward[order], added[order], order, after[order]))
            self._options[key] = list(zip(*columns, strict=True))
        return self._options[key]


_Option = tuple[Number, Number, int, int]
"""A choice in a layer: what it adds with its best completion, what it adds itself, its index, the state after it."""


_Entry = tuple[Number, int, _Scored, list[_Option], int, Number, tuple[int, ...]]


def ranked(graphs: Iterable[tuple[Trellis, Terms]], sign: int) -> Iterator[tuple[Trellis, tuple[int, ...]]]:
    """All paths, as (trellis, choices), in falling order of `sign` * terms. Lazy: take as many as you need."""
    tie = count()  # of equal entries the latest is expanded first, which soon completes a path
    heap: list[_Entry] = []

    def push(each: _Scored, options: list[_Option], number: int, reached: Number, choices: tuple[int, ...]) -> None:
        if number < len(options):
            bound = reached + options[number][0]
            heapq.heappush(heap, (-bound, -next(tie), each, options, number, reached, choices))

    for each in (_Scored(trellis, terms, sign) for trellis, terms in graphs):
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
    """Undominated partial sums after a layer: their state, cost and score, and the label and choice they came from."""

    state: Array
    cost: Array
    score: Array
    parent: Array
    choice: Array


def front(
    graphs: Sequence[tuple[Trellis, Terms, Terms]], sign: int
) -> Iterator[tuple[Trellis, list[int], Number, Number]]:
    """The Pareto front of least cost and greatest `sign` * score, in rising order of cost.

    `graphs` holds (trellis, cost, score); yields (trellis, choices, cost, score).
    """
    labels = [_labels(trellis, cost, score, sign) for trellis, cost, score in graphs]
    a = np.concatenate([steps[-1].cost for steps in labels])
    b = np.concatenate([steps[-1].score for steps in labels])
    owner = np.repeat(np.arange(len(labels)), [len(steps[-1].cost) for steps in labels])
    place = np.concatenate([np.arange(len(steps[-1].cost)) for steps in labels])
    for i in undominated_by_group(np.zeros_like(owner), a, b):
        steps, choices, at = labels[owner[i]], [], int(place[i])
        for step in reversed(steps[1:]):
            choices.append(int(step.choice[at]))
            at = int(step.parent[at])
        yield graphs[owner[i]][0], choices[::-1], a[i].item(), sign * b[i].item()


def _labels(trellis: Trellis, cost: Terms, score: Terms, sign: int) -> list[_Step]:
    """Forward pass of a label-correcting algorithm: the Pareto set of (cost, score) at each node."""
    zero = np.zeros(1, dtype=np.int64)
    steps = [_Step(zero, np.array([cost.constant]), np.array([sign * score.constant]), zero, zero)]
    layers = zip(trellis.moves, cost.layers, score.layers, [None, *score.links], [*score.links, None], strict=True)
    for moves, cost_terms, score_terms, link, onward in layers:
        last = steps[-1]
        to = moves[last.state]
        a = last.cost[:, None] + cost_terms
        b = last.score[:, None] + sign * score_terms
        if link is not None:
            b = b + sign * link[last.choice]
        parent, choice = np.nonzero(to >= 0)
        to, a, b = to[parent, choice], a[parent, choice], b[parent, choice]
        keep = undominated_by_group(to if onward is None else to * moves.shape[1] + choice, a, b)
        steps.append(_Step(to[keep], a[keep], b[keep], parent[keep], choice[keep]))
    return steps


def undominated_by_group(group: Array, cost: Array, score: Array) -> Array:
    """Indices of the Pareto set (least cost, greatest score) of each group, ordered by group and rising cost."""
    order = np.lexsort((-score, cost, group))
    rank = np.unique(score, return_inverse=True)[1].reshape(-1)[order]
    key = group[order] * (len(score) + 1) + rank  # a later group beats all of the one before
    best_before = np.concatenate(([-1], np.maximum.accumulate(key)[:-1]))
    return order[key > best_before]
