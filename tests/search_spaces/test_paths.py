"""Fronts and optimal paths, against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import AdditiveTable, Feasible, Space
from search_spaces.space import Network

PROPERTY = settings(max_examples=40, deadline=None)


def small_space(rng):
    layers = int(rng.integers(2, 5))
    network = Network(((4, 2, 2),), width=64, heads=4, ffn_dim=256, num_layers=layers, head_dim=4)

    def some(values):
        return tuple(sorted(rng.choice(values, int(rng.integers(1, len(values) + 1)), replace=False).tolist()))

    depths = {layers: tuple(range(layers))}
    if rng.random() < 0.7:
        depths[layers - 1] = tuple(sorted(rng.choice(layers, layers - 1, replace=False).tolist()))
    return Space(
        "random", network, some([16, 32, 64]), tuple(some([1, 2, 4]) for _ in range(layers)),
        tuple(some([1.0, 2.5]) for _ in range(layers)), depths,
    )  # fmt: skip


def random_table(space, rng, name, whole):
    draw = (lambda *_: int(rng.integers(-20, 60))) if whole else (lambda *_: float(rng.normal()))
    return AdditiveTable.build(space, name, "u", draw, draw)


@st.composite
def cases(draw, tables=1, whole=None):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    space = small_space(rng)
    kinds = [bool(rng.integers(2)) if whole is None else whole for _ in range(tables)]
    return space, [random_table(space, rng, f"t{i}", kind) for i, kind in enumerate(kinds)], rng


def by_hand(table, subnet):
    """The quantity by its definition, term by term."""
    space = table.space
    e, p = space.embed_dims.index(subnet.embed_dim), space.depths.index(subnet.depth)
    total = table.constant[e, p]
    for layer, choice in space.layers_of(subnet).items():
        total += table.layers[layer][e, p, space.choices[layer].index(choice)]
    return total.item()


@PROPERTY
@given(cases(tables=2), st.floats(0.1, 1), st.booleans())
def test_front_is_the_brute_force_front(case, quantile, maximize):
    space, (cost, score), rng = case
    extra = random_table(space, rng, "extra", whole=True)
    everything = list(space)
    limit = int(np.quantile([by_hand(extra, s) for s in everything], quantile))
    fit = [s for s in everything if by_hand(extra, s) <= limit]
    sign = 1 if maximize else -1
    points = {(round(by_hand(cost, s), 9), round(sign * by_hand(score, s), 9)) for s in fit}
    front = {(a, b) for a, b in points if not any((c <= a and d > b) or (c < a and d >= b) for c, d in points)}
    found = Feasible(space, [(extra, limit)]).front(cost, score, maximize) if fit else []
    assert {(round(p.cost, 9), round(sign * p.score, 9)) for p in found} == front
    assert all(by_hand(cost, p.subnet) == pytest.approx(p.cost) for p in found)
    assert [p.cost for p in found] == sorted(p.cost for p in found)


@PROPERTY
@given(cases())
def test_range_is_least_and_greatest(case):
    space, (table,), _ = case
    values = [by_hand(table, s) for s in space]
    assert table.range() == (pytest.approx(min(values)), pytest.approx(max(values)))
