"""The small world of the tests."""

import pytest

from nas.testing.worlds import Counting, Ruling, content, evaluation, params_of, tiny_space
from search_spaces.synthetic import SyntheticScore


def test_the_space_is_small_enough_to_enumerate():
    space = tiny_space()
    assert space.size == len(list(space)) == 504
    assert tiny_space((2, 4)).size < 504


def test_the_cost_is_the_matrices_of_the_layers():
    space = tiny_space()
    subnet = space.largest
    by_hand = 1000 + 192 + 3 * (4 * 192 * 32 * 6 + 2 * 192 * int(3.5 * 192))
    assert params_of(space).of(subnet) == by_hand


def test_scores_count_and_rule_out():
    space = tiny_space()
    plain = SyntheticScore(space)
    counting = Counting(plain)
    subnets = [space.smallest, space.largest]
    assert counting(subnets) == plain(subnets)
    assert counting.scored == subnets
    low, high = plain(subnets)
    assert Ruling(plain).against(subnets, space.largest, high) == [(pytest.approx(low - 0.001), True), (high, False)]


def test_content_has_no_times():
    made = evaluation(0, tiny_space().smallest, at="2026-01-01")
    assert content([made]) == content([evaluation(0, tiny_space().smallest)])
