"""Values of many encoded subnets at once, against the definition."""

import numpy as np
import pytest
from hypothesis import given

from search_spaces import AdditiveTable, SpaceError, get_space
from search_spaces.vector_sums import VectorSums
from tests.search_spaces.helpers import PROPERTY, by_hand, cases
from tests.spaces import COARSE


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


@pytest.mark.parametrize("unit", [1, 1 << 50, 0.25])  # integers looked up in groups, larger integers, floats
def test_sums_by_hand(unit):
    space = COARSE
    table = AdditiveTable.build(space, "t", "", lambda D, depth: unit * D, lambda D, heads, *_: unit * heads)
    rows = np.array([space.encode(subnet) for subnet in (space.largest, space.smallest)])
    sums = VectorSums(space, table.constant, table.layers).of(rows)
    assert sums.tolist() == [unit * (192 + 12 * 6), unit * (128 + 10 * 2)]
    assert sums.dtype == (np.int64 if isinstance(unit, int) else np.float64)
