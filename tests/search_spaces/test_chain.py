"""Optima of sums over layers and over neighbouring layers, against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import ChainTable, Feasible, SpaceError
from tests.search_spaces.helpers import PROPERTY, by_hand, random_table, small_space
from tests.spaces import COARSE


def neighbours(space):
    return sorted({pair for kept in space.depth_map.values() for pair in itertools.pairwise(kept)})


def random_chain(space, rng):
    plain = random_table(space, rng, "chain", whole=False)
    some = [pair for pair in neighbours(space) if rng.random() < 0.8]
    pairs = {(a, b): rng.normal(size=(len(space.choices[a]), len(space.choices[b]))) for a, b in some}
    return ChainTable(space, "chain", "u", plain.constant, plain.layers, pairs)


def chain_by_hand(table, subnet):
    space = table.space
    total = by_hand(table, subnet)
    chosen = [(layer, space.choices[layer].index(choice)) for layer, choice in space.layers_of(subnet).items()]
    for (a, i), (b, j) in itertools.pairwise(chosen):
        if (a, b) in table.pairs:
            total += table.pairs[a, b][i, j]
    return total


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    space = small_space(rng)
    chain, cost = random_chain(space, rng), random_table(space, rng, "cost", whole=bool(rng.integers(2)))
    values = {subnet: (by_hand(cost, subnet), chain_by_hand(chain, subnet)) for subnet in space}
    limit = np.quantile([value for value, _ in values.values()], draw(st.floats(0.1, 1))).item()
    fit = {subnet: value for subnet, value in values.items() if value[0] <= limit}
    return Feasible(space, [(cost, limit)]), cost, chain, fit


@PROPERTY
@given(cases())
def test_of_adds_the_terms_of_neighbours(case):
    _, _, chain, fit = case
    for subnet, (_, value) in itertools.islice(fit.items(), 40):
        assert chain.of(subnet) == pytest.approx(value, abs=1e-12)


@PROPERTY
@given(cases(), st.booleans())
def test_ranked_gives_all_that_fit_in_order(case, maximize):
    feasible, _, chain, fit = case
    sign = -1 if maximize else 1
    found = list(itertools.islice(feasible.ranked(chain, maximize), 200))
    assert len(set(found)) == len(found) == min(200, feasible.count())
    expected = sorted(sign * value for _, value in fit.values())
    assert [sign * fit[subnet][1] for subnet in found] == pytest.approx(expected[: len(found)])
    assert feasible.best(chain, maximize) == found[0]


@PROPERTY
@given(cases())
def test_the_best_of_each_shape(case):
    feasible, _, chain, fit = case
    shapes = {}
    for subnet, (_, value) in fit.items():
        key = (subnet.embed_dim, subnet.depth)
        shapes[key] = max(value, shapes.get(key, -np.inf))
    found = {(s.embed_dim, s.depth): fit[s][1] for s in feasible.best_of_each_shape(chain)}
    assert found == pytest.approx(shapes)


@PROPERTY
@given(cases(), st.booleans())
def test_front_is_the_brute_force_front(case, maximize):
    feasible, cost, chain, fit = case
    sign = 1 if maximize else -1
    points = {(round(a, 9), round(sign * b, 9)) for a, b in fit.values()}
    front = {(a, b) for a, b in points if not any((c <= a and d > b) or (c < a and d >= b) for c, d in points)}
    found = feasible.front(cost, chain, maximize)
    assert {(round(p.cost, 9), round(sign * p.score, 9)) for p in found} == front
    assert all(chain_by_hand(chain, p.subnet) == pytest.approx(p.score) for p in found)


def test_balanced_draws_come_from_every_shape_alike():
    space = COARSE
    draws = Feasible(space).sample(np.random.default_rng(0), 900, balanced=True)
    shapes = itertools.product((128, 160, 192), (10, 11, 12))
    seen = [sum((s.embed_dim, s.depth) == shape for s in draws) for shape in shapes]
    assert sum(seen) == 900
    assert min(seen) > 60


def test_pairs_of_other_layers_or_shapes_are_refused():
    space = COARSE
    plain = random_table(space, np.random.default_rng(0), "t", whole=False)
    with pytest.raises(SpaceError, match="layers 1 and 6 are neighbours at no depth"):
        ChainTable(space, "t", "", plain.constant, plain.layers, {(0, 5): np.zeros((9, 9))})
    with pytest.raises(SpaceError, match="of shape"):
        ChainTable(space, "t", "", plain.constant, plain.layers, {(0, 1): np.zeros((9, 8))})


def test_a_chain_is_no_limit():
    rng = np.random.default_rng(0)
    space = small_space(rng)
    with pytest.raises(SpaceError, match="cannot be a limit"):
        Feasible(space, [(random_chain(space, rng), 1.0)])
