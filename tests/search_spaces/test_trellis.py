"""Trellises by hand, and against brute force if states must be merged."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import AdditiveTable, Feasible, Space, trellis
from search_spaces.network import Network
from search_spaces.trellis import Terms, Trellis, uniform_ranks, unrank
from tests.search_spaces.helpers import by_hand, random_table, small_space


def test_too_many_states_round_up_instead_of_failing(monkeypatch):
    monkeypatch.setattr(trellis, "MAX_STATES", 40)
    rng = np.random.default_rng(0)
    space = small_space(np.random.default_rng(5))
    tables = [random_table(space, rng, "a", whole=True), random_table(space, rng, "b", whole=False)]
    limits = [(t, float(np.median([by_hand(t, s) for s in space]))) for t in tables]
    feasible = Feasible(space, limits)
    assert 0 < feasible.count() <= sum(feasible.contains(s) for s in space)
    assert all(feasible.contains(s) for s in feasible.sample(rng, 200))


def six_layers(tables, rng):
    """A space of 9^6 subnets, random tables of it ("real", or integers of 40 bits), and their values (tables, 9^6)."""
    network = Network(((4, 2, 2),), width=64, heads=4, ffn_dim=256, num_layers=6, head_dim=4)
    space = Space("six", network, (16,), ((1, 2, 3),) * 6, ((1.0, 2.0, 2.5),) * 6, {6: tuple(range(6))})
    draws = {"real": lambda *_: float(rng.normal()), "40 bits": lambda *_: int(rng.integers(1 << 40))}
    made = [AdditiveTable.build(space, f"{t}, {i}", "", draws[t], draws[t]) for i, t in enumerate(tables)]
    grids = [np.ix_(*(terms[0, 0] for terms in table.layers)) for table in made]
    return space, made, [(sum(grid) + t.constant[0, 0]).ravel() for t, grid in zip(made, grids, strict=True)]


@pytest.mark.parametrize(
    ("tables", "most_states"),
    [
        (("40 bits",), 1 << 12),
        (("real",), 1 << 12),
        (("40 bits", "real"), 1 << 14),
        (("40 bits", "40 bits"), 1 << 14),
        (("40 bits", "real", "real"), 1 << 16),
    ],
)
def test_very_many_sums_keep_most_of_what_fits(tables, most_states, monkeypatch):
    """Also with fewer states than a trellis may have: a larger space than can be counted by hand comes to need them."""
    monkeypatch.setattr(trellis, "MAX_STATES", most_states)
    rng = np.random.default_rng(0)
    space, made, values = six_layers(tables, rng)
    limits = [float(np.median(value)) for value in values]
    fit = np.all([value <= limit for value, limit in zip(values, limits, strict=True)], axis=0).sum()
    feasible = Feasible(space, list(zip(made, limits, strict=True)))
    assert 0.9 * fit <= feasible.count() <= fit
    assert all(feasible.contains(s) for s in feasible.sample(rng, 200))


def test_one_state_is_enough_to_end(monkeypatch):
    monkeypatch.setattr(trellis, "MAX_STATES", 1)
    space, made, values = six_layers(("40 bits", "real"), np.random.default_rng(0))
    limits = [(table, float(np.median(value))) for table, value in zip(made, values, strict=True)]
    assert 0 <= Feasible(space, limits).count() <= space.size
    for limit in limits:
        assert Feasible(space, [limit]).count() > 0  # under one limit the cheapest is never left out


# -------------------------------------------------------------------- by hand


def terms(constant, *layers, links=None):
    kind = np.int64 if isinstance(constant, int) else np.float64
    return Terms(kind(constant), [np.array(layer, dtype=kind) for layer in layers], links or [None] * (len(layers) - 1))


def build(*limits):
    sizes = [len(layer) for layer in limits[0][0].layers]
    return Trellis.build(0, 0, tuple(range(len(sizes))), sizes, limits)


def paths_of(trellises):
    """All paths, in the order of their numbers."""
    counts = [each.counts(1 << 20) for each in trellises]
    total = sum(each.total for each in counts)
    drawn = {}
    for each, indices, columns in unrank(trellises, counts, np.arange(total)):
        choices = (tuple(row) for row in np.transpose(columns).tolist())
        drawn |= zip(indices.tolist(), ((each.e, row) for row in choices), strict=True)
    return [drawn[i] for i in range(total)]


COST = terms(10, [1, 3], [2, 5])  # sums 13, 16, 15, 18


@pytest.mark.parametrize(
    ("limit", "fit"),
    [(12, []), (12.9, []), (13, [(0, 0)]), (15.5, [(0, 0), (1, 0)]), (17, [(0, 0), (0, 1), (1, 0)]),
     (18, [(0, 0), (0, 1), (1, 0), (1, 1)]), (math.inf, [(0, 0), (0, 1), (1, 0), (1, 1)]), (-math.inf, [])],
)  # fmt: skip
def test_paths_are_the_choices_that_keep_the_limit(limit, fit):
    made = build((COST, limit))
    assert (made is None) == (not fit)
    if made:
        assert [choices for _, choices in paths_of([made])] == fit
        assert made.counts(1 << 20).total == len(fit)


def test_states_with_the_same_future_are_one():
    """At most 20 after two layers: after the first, 0, 1 and 2 leave any rest, and 15 leaves only the cheapest."""
    made = build((terms(0, [0, 1, 2, 15], [3, 18]), 20))
    assert made.moves[0].tolist() == [[0, 0, 0, 1]]
    assert (made.moves[1] >= 0).tolist() == [[True, True], [True, False]]
    assert made.counts(100).after(0, np.array([0, 1, -1])).tolist() == [2, 1, 0]


def test_a_limit_that_binds_nothing_has_no_states():
    assert [len(moves) for moves in build((COST, 18)).moves] == [1, 1]


def test_limits_without_a_common_path_have_no_trellis():
    opposed = terms(0, [-1, -3], [-2, -5])
    assert build((COST, 13), (opposed, -8)) is None
    assert build((COST, 18), (opposed, -8)) is not None


def test_terms_are_exact_if_they_are_integers():
    assert terms(1, [2]).exact
    assert not terms(1.0, [2]).exact


@pytest.mark.parametrize("seed", range(20))
def test_unranking_visits_each_path_once_in_order(seed):
    rng = np.random.default_rng(seed)
    made = []
    for e in range(3):
        layers = [rng.integers(-5, 9, size=int(rng.integers(1, 4))) for _ in range(4)]
        cost = terms(0, *layers)
        limit = int(rng.integers(0, 15))
        if each := Trellis.build(e, 0, (0, 1, 2, 3), [len(layer) for layer in layers], [(cost, limit)]):
            made.append((each, layers, limit))
    expected = [
        (each.e, choices)
        for each, layers, limit in made
        for choices in itertools.product(*(range(len(layer)) for layer in layers))
        if sum(int(layer[c]) for layer, c in zip(layers, choices, strict=True)) <= limit
    ]
    assert paths_of([each for each, _, _ in made]) == expected


# -------------------------------------------------------------------- draws


def test_ranks_are_uniform():
    ranks = uniform_ranks(np.random.default_rng(0), [3, 7], 10_000)
    counts = Counter(ranks.tolist())
    assert set(counts) == set(range(10))
    assert all(abs(count - 1000) < 150 for count in counts.values())  # 5 standard deviations


def test_balanced_ranks_choose_the_trellis_first():
    ranks = uniform_ranks(np.random.default_rng(0), [1, 1_000_000], 2000, balanced=True)
    assert abs((ranks == 0).sum() - 1000) < 120
    assert len(set(ranks.tolist())) > 900


def test_ranks_beyond_64_bits_are_uniform():
    total = 3 << 80
    ranks = uniform_ranks(np.random.default_rng(0), [1 << 80, 2 << 80], 3000).tolist()
    assert all(0 <= rank < total for rank in ranks)
    assert abs(sum(rank < 1 << 80 for rank in ranks) - 1000) < 130
    assert len({rank % 1024 for rank in ranks}) > 900


def test_counts_beyond_64_bits_are_exact():
    made = build((terms(0, *[[0] * 9] * 30), 0))
    counts = made.counts(9**30)
    assert counts.total == 9**30
    assert counts.after(14, np.array([0])).tolist() == [9**15]
    ((_, indices, columns),) = unrank([made], [counts], np.array([9**30 - 1], dtype=object))
    assert indices.tolist() == [0]
    assert columns == [8] * 30


def test_many_layers_and_choices_take_a_bounded_trellis():
    rng = np.random.default_rng(0)
    costs = [terms(0.0, *rng.random((64, 32)).tolist()) for _ in range(2)]
    made = build((costs[0], 25.0), (costs[1], 28.0))
    assert sum(moves.size for moves in made.moves) <= trellis.MAX_MOVES
    assert made.has_paths


# -------------------------------------------------------------------- floats


@settings(max_examples=500, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_what_may_be_spent_is_exact_for_floats_that_round(total, term):
    most = trellis._greatest_addend(total, term)
    assert most + term <= total < math.nextafter(most, math.inf) + term
