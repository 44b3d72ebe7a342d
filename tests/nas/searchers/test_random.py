from __future__ import annotations

from collections import Counter

import numpy as np

from nas import Objective, get_searcher
from nas.testing.worlds import params_of, tiny_space
from search_spaces import Feasible


def test_draws_are_uniform_over_the_subnets_that_fit():
    space = tiny_space(heads=(2, 4))
    params = params_of(space)
    limit = sorted(params.of(subnet) for subnet in space)[11]
    feasible = Feasible(space, [(params, limit)])
    fits = feasible.count()
    draws = Counter[object]()
    for seed in range(2000):
        draws.update(get_searcher("random")(feasible, Objective(), np.random.default_rng(seed), 3).ask(3))
    expected = 6000 / fits
    chi_square = sum((draws[subnet] - expected) ** 2 / expected for subnet in space if feasible.contains(subnet))
    assert sum(draws.values()) == 6000
    assert chi_square < 2.5 * fits  # far beyond the 99.9 % point; draws without replacement vary even less
