"""Against brute force on small random spaces."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import AdditiveCost, AdditiveTable, Feasible, InfeasibleError, Space, SpaceError, get_space
from search_spaces.network import Network
from tests.search_spaces.helpers import PROPERTY, by_hand, cases, random_table, small_space


@PROPERTY
@given(cases())
def test_of_is_constant_plus_layers(case):
    space, (table,), _ = case
    for subnet in itertools.islice(space, 50):
        assert table.of(subnet) == pytest.approx(by_hand(table, subnet), abs=1e-12)


@PROPERTY
@given(cases(tables=2, whole=True), st.floats(0, 1), st.floats(0, 1))
def test_integer_limits_are_exact(case, a, b):
    space, tables, rng = case
    everything = list(space)
    limits = [
        (t, int(np.quantile([by_hand(t, s) for s in everything], q))) for t, q in zip(tables, (a, b), strict=True)
    ]
    fit = {s for s in everything if all(by_hand(t, s) <= limit for t, limit in limits)}
    feasible = Feasible(space, limits)
    assert feasible.count() == len(fit)
    if fit:
        assert set(feasible.sample(rng, 200)) <= fit
        score = random_table(space, rng, "score", whole=False)
        assert by_hand(score, feasible.best(score)) == pytest.approx(max(by_hand(score, s) for s in fit))
        assert by_hand(score, feasible.cheapest(score)) == pytest.approx(min(by_hand(score, s) for s in fit))
    else:
        with pytest.raises(InfeasibleError):
            feasible.sample(rng)


@PROPERTY
@given(cases(tables=3), st.floats(0.05, 1))
def test_no_limit_is_ever_broken(case, quantile):
    space, tables, rng = case
    everything = list(space)
    limits = [(t, np.quantile([by_hand(t, s) for s in everything], quantile).item()) for t in tables]
    fit = [s for s in everything if all(by_hand(t, s) <= limit for t, limit in limits)]
    feasible = Feasible(space, limits)
    near = [s for s in fit if any(limit - by_hand(t, s) < 0.02 and not t.exact for t, limit in limits)]
    assert len(fit) - len(near) <= feasible.count() <= len(fit)
    if feasible.count():
        assert all(feasible.contains(s) for s in feasible.sample(rng, 100))


@PROPERTY
@given(cases())
def test_range_is_least_and_greatest(case):
    space, (table,), _ = case
    values = [by_hand(table, s) for s in space]
    assert table.range() == (pytest.approx(min(values)), pytest.approx(max(values)))


@pytest.mark.parametrize("bits", [62, 1])
def test_draws_are_uniform(bits, monkeypatch):
    if bits == 1:  # the path of spaces too large for 64 bits
        monkeypatch.setattr(Space, "size", 1 << 70)
    rng = np.random.default_rng(3)
    space = small_space(np.random.default_rng(5))
    table = random_table(space, rng, "cost", whole=True)
    budget = int(np.median([by_hand(table, s) for s in space]))
    fit = [s for s in space if by_hand(table, s) <= budget]
    assert len(fit) > 20
    draws = 200 * len(fit)
    seen = Counter(table.sample(budget, rng, draws))
    assert set(seen) == set(fit)
    chi2 = sum((seen[s] - 200) ** 2 / 200 for s in fit)
    free = len(fit) - 1
    assert abs(chi2 - free) < 4 * (2 * free) ** 0.5


def test_the_whole_space_is_counted_without_limits():
    space = get_space("lighthubert-small")
    assert Feasible(space).count() == 951_892_141_473


@pytest.mark.parametrize("whole", [True, False])
def test_an_infinite_limit_is_none_and_below_it_nothing_fits(whole):
    rng = np.random.default_rng(0)
    space = small_space(np.random.default_rng(5))
    table = random_table(space, rng, "cost", whole)
    assert table.count(np.inf) == space.size
    assert table.count(-np.inf) == 0
    assert Feasible(space, [(table, np.inf)]).best(table) == Feasible(space).best(table)
    with pytest.raises(InfeasibleError, match="keeps cost<=-inf; the smallest has"):
        table.sample(-np.inf, rng)


@PROPERTY
@given(cases(tables=2, whole=False))
def test_limits_that_bind_nothing_leave_nothing_out(case):
    space, tables, _ = case
    limits = [(table, table.range()[1]) for table in tables]
    assert Feasible(space, limits).count() == space.size


def test_a_real_valued_limit_that_binds_nothing_keeps_a_whole_large_space():
    space, rng = get_space("lighthubert-small"), np.random.default_rng(0)
    table = AdditiveTable.build(space, "t", "", lambda *_: float(rng.normal()), lambda *_: float(rng.normal()))
    assert table.count(table.range()[1]) == space.size
    assert table.count(table.range()[0]) == 1


@PROPERTY
@given(cases(whole=False), st.integers(0, 2**32))
def test_few_real_valued_sums_are_counted_exactly(case, pick):
    space, (table,), _ = case
    values = [table.of(s) for s in itertools.islice(space, 5000)]
    limit = values[pick % len(values)]  # a subnet that is at the limit itself keeps it
    assert table.count(limit) == sum(table.of(s) <= limit for s in space)


def test_a_limit_in_numpy_scalars_is_the_same_limit():
    space = small_space(np.random.default_rng(5))
    table = random_table(space, np.random.default_rng(0), "cost", whole=True)
    for limit in (np.int64(40), np.float64(40.9), np.float32(40.5)):
        assert table.count(limit) == table.count(40)


@pytest.mark.parametrize("limit", ["27M", None, True, np.True_, np.nan, np.float64("nan"), 1j, [1]])
def test_limits_that_are_no_numbers_are_refused(limit):
    space = get_space("hubert-tiny")
    table = AdditiveTable.build(space, "cost", "", lambda *_: 0, lambda *_: 1)
    with pytest.raises(SpaceError, match="the limit on cost must be a number; got"):
        Feasible(space, [(table, limit)])


def test_impossible_limits_name_the_nearest_possible():
    from evaluators.costs import macs, params

    space = get_space("lighthubert-small")
    table = params(space).table
    with pytest.raises(InfeasibleError, match=r"params<=1,000,000; the smallest has 11,442,944 params \(subnet {"):
        table.sample(1_000_000, np.random.default_rng(0))
    assert table.count(1_000_000) == 0
    work = macs(space).table
    low = table.of(space.smallest)
    opposed = AdditiveTable(space, "opposed", "", -work.constant, tuple(-layer for layer in work.layers))
    with pytest.raises(InfeasibleError, match="together; with the others kept, params could be"):
        Feasible(space, [(table, low), (opposed, opposed.of(space.largest))]).best(work)


def test_tables_of_other_shapes_or_with_nan_are_refused():
    space = get_space("hubert-tiny")
    with pytest.raises(SpaceError, match="must have shapes"):
        AdditiveTable(space, "t", "", np.zeros(3), ())
    with pytest.raises(SpaceError, match="not finite"):
        AdditiveTable.build(space, "t", "", lambda *_: float("nan"), lambda *_: 0.0)
    with pytest.raises(SpaceError, match="is of space"):
        Feasible(get_space("lighthubert-small"), [(AdditiveTable.build(space, "t", "", lambda *_: 0, lambda *_: 0), 1)])


def test_tables_of_another_space_are_refused():
    here, there = get_space("lighthubert-small"), get_space("hubert-tiny")
    own, other = (AdditiveTable.build(space, "t", "", lambda *_: 0, lambda *_: 1) for space in (here, there))
    for ask in (
        lambda: own.best(other),
        lambda: own.front(other),
        lambda: other.front(own),
        lambda: Feasible(here).cheapest(other),
        lambda: Feasible(here).front(other, own),
    ):
        with pytest.raises(SpaceError, match=r"^table 't' is of space '[\w-]+', not of '[\w-]+'$"):
            ask()


@pytest.mark.parametrize("term", [1 << 61, -(1 << 63), (1 << 64) + 1, 1 << 58, np.uint64(1 << 63)])
def test_integers_that_would_wrap_are_refused(term):
    """The last but one fits by itself; 12 layers of it do not."""
    space = get_space("lighthubert-small")
    with pytest.raises(SpaceError, match=r"integers of table 't' must sum to less than 2\^61; theirs could reach"):
        AdditiveTable.build(space, "t", "", lambda *_: 1, lambda *_: term)


def test_large_integers_stay_exact():
    space = get_space("lighthubert-small")
    table = AdditiveTable.build(space, "t", "", lambda *_: 1, lambda *_: 1 << 57)
    assert table.of(space.largest) == 12 * (1 << 57) + 1
    assert table.count(12 * (1 << 57)) == Feasible(space).count() - 3 * 9**12
    as_floats = AdditiveTable.build(space, "t", "", lambda *_: 1, lambda *_: float(1 << 62))
    assert as_floats.of(space.largest) == 12.0 * (1 << 62)


def test_limits_that_exclude_each_other_layer_by_layer_are_impossible():
    """Each limit alone has a subnet, in the same embed dim and depth; no subnet keeps both."""
    network = Network(((4, 2, 2),), width=16, heads=2, ffn_dim=16, num_layers=2, head_dim=4)
    space = Space("two", network, (16,), ((1, 2), (1, 2)), ((1.0,), (1.0,)), {2: (0, 1)})
    few = AdditiveTable.build(space, "few", "heads", lambda *_: 0, lambda D, heads, *_: heads)
    many = AdditiveTable.build(space, "many", "heads", lambda *_: 0, lambda D, heads, *_: -heads)
    feasible = Feasible(space, [(few, 2), (many, -3)])
    assert feasible.count() == 0
    for ask in (lambda: feasible.best(few), lambda: feasible.front(few, many), lambda: feasible.sample(None)):
        with pytest.raises(InfeasibleError, match="few could be 3 instead of 2, or many could be -2 instead of -3"):
            ask()


def test_if_no_limit_can_be_left_out_that_is_the_message():
    network = Network(((4, 2, 2),), width=16, heads=2, ffn_dim=16, num_layers=2, head_dim=4)
    space = Space("two", network, (16,), ((1, 2), (1, 2)), ((1.0,), (1.0,)), {2: (0, 1)})
    few = AdditiveTable.build(space, "few", "heads", lambda *_: 0, lambda D, heads, *_: heads)
    many = AdditiveTable.build(space, "many", "heads", lambda *_: 0, lambda D, heads, *_: -heads)
    with pytest.raises(InfeasibleError, match=r"few<=2 .* together; leaving out one of them is not enough"):
        Feasible(space, [(few, 2), (few, 2), (many, -3), (many, -3)]).best(few)


def test_a_table_is_an_additive_cost():
    table = AdditiveTable.build(get_space("hubert-tiny"), "t", "", lambda *_: 0, lambda *_: 1)
    assert isinstance(table, AdditiveCost)
    assert table.table is table
