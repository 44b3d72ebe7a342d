"""Against brute force on small random spaces."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import AdditiveTable, Feasible, InfeasibleError, Space, SpaceError, additive, get_space
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


def test_too_many_states_round_up_instead_of_failing(monkeypatch):
    monkeypatch.setattr(additive, "MOST_STATES", 40)
    rng = np.random.default_rng(0)
    space = small_space(np.random.default_rng(5))
    tables = [random_table(space, rng, "a", whole=True), random_table(space, rng, "b", whole=False)]
    limits = [(t, float(np.median([by_hand(t, s) for s in space]))) for t in tables]
    feasible = Feasible(space, limits)
    assert 0 < feasible.count() <= sum(feasible.contains(s) for s in space)
    assert all(feasible.contains(s) for s in feasible.sample(rng, 200))


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
