from __future__ import annotations

import numpy as np
import pytest

from nas.searchers.repair import repaired
from nas.testing.worlds import params_of, tiny_space
from search_spaces import Feasible


@pytest.mark.parametrize("weight", [1, 4])
def test_repair_takes_the_nearest_subnet_that_fits(weight):
    space = tiny_space()
    params = params_of(space)
    limit = int(np.quantile([params.of(subnet) for subnet in space], 0.2))
    feasible = Feasible(space, [(params, limit)])

    def steps(a, b):
        """Of choices, counted by hand: shape changes cost `weight`."""
        shape = abs((128, 192).index(a.embed_dim) - (128, 192).index(b.embed_dim)) + abs(a.depth - b.depth)
        one, other = space.layers_of(a), space.layers_of(b)
        both = [(one[layer], other[layer]) for layer in one if layer in other]
        return weight * shape + sum(abs(h - g) // 2 + (r != q) for (h, r), (g, q) in both)

    fits = [subnet for subnet in space if params.of(subnet) <= limit]
    for child in list(space)[::17]:
        nearest = repaired(feasible, child, weight)
        assert params.of(nearest) <= limit
        assert steps(child, nearest) == min(steps(child, subnet) for subnet in fits)
