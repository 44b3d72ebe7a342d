"""Against brute force on small random spaces."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import AdditiveTable, Feasible, InfeasibleError, Space, SpaceError, get_space, trellis
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
    with pytest.raises(InfeasibleError, match="together; the others kept, params could be"):
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


@PROPERTY
@given(cases())
def test_vectors_are_read_as_the_space_reads_them(case):
    space, (table,), rng = case
    subnets = [space.sample(rng) for _ in range(30)]
    rows = np.array([space.encode(subnet) for subnet in subnets])
    expected = [by_hand(table, subnet) for subnet in subnets]
    np.testing.assert_array_equal(table.of_vectors(rows), expected)
    np.testing.assert_array_equal(table.of_vectors(np.where(rows < 0, 99, rows)), expected)  # layers that are not kept
    np.testing.assert_array_equal(table.of_vectors(np.asfortranarray(rows)[::-1]), expected[::-1])
    np.testing.assert_array_equal(table.of_vectors(rows.astype(np.int8)), expected)
    assert table.of_vectors(rows[:0]).shape == (0,)


@pytest.mark.parametrize("value", [-1, 99, np.iinfo(np.int64).min])
@pytest.mark.parametrize("entry", [0, 1, 2, 25])
def test_vectors_with_indices_out_of_range_are_refused(entry, value):
    space = get_space("lighthubert-small")
    table = AdditiveTable.build(space, "t", "", lambda *_: 0, lambda *_: 1)
    rows = np.tile(space.encode(space.largest), (5000, 1))
    rows[4321, entry] = value
    with pytest.raises(SpaceError, match=rf"index {value} in entry {entry} of a vector is not in space"):
        table.of_vectors(rows)
    with pytest.raises(SpaceError, match=r"must have shape \(N, 26\); got \(26,\)"):
        table.of_vectors(rows[0])


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
