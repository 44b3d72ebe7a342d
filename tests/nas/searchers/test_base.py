"""What searchers share."""

import numpy as np
import pytest

from nas.objective import Objective
from nas.searchers.random import RandomSearcher
from nas.testing.worlds import params_of, tiny_space
from search_spaces import Feasible

SPACE = tiny_space()
PARAMS = params_of(SPACE)


def made(limits=()):
    return RandomSearcher(Feasible(SPACE, limits), Objective(), np.random.default_rng(0), 20)


def test_draws_are_new_and_end_with_the_space():
    searcher = made()
    assert len(set(searcher.draw(10_000))) == SPACE.size
    assert searcher.draw(3) == []
    assert searcher.repeated > 0


def test_repairs_give_the_nearest_that_fits_and_are_counted():
    least = PARAMS.range()[0]
    searcher = made([(PARAMS, least)])
    assert PARAMS.of(searcher.repair(SPACE.largest)) == least
    assert searcher.repaired == 1
    assert searcher.repair(SPACE.smallest) == SPACE.smallest
    assert searcher.repaired == 1


def test_taking_a_subnet_twice_is_noticed():
    searcher = made()
    assert searcher.take(SPACE.largest)
    assert not searcher.take(SPACE.largest)
    assert searcher.repeated == 1


def test_a_searcher_must_say_how_it_asks():
    from nas.searchers.base import Searcher

    with pytest.raises(TypeError, match="ask"):
        Searcher(Feasible(SPACE), Objective(), np.random.default_rng(0), 20)
