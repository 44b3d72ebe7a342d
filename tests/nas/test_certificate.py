"""Certificates on worlds whose optimum is known."""

import numpy as np
import pytest

from nas.certificate import certify
from nas.score_model import ChoiceFeatures, ScoreModel
from nas.testing.worlds import chain_world, params_of, tiny_space
from search_spaces import Feasible

SPACE = tiny_space()
FEATURES = ChoiceFeatures(SPACE)


@pytest.mark.parametrize("strength", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_the_regret_is_within_the_certificate_and_it_tightens(strength, seed):
    world, cost = chain_world(SPACE, strength, seed), params_of(SPACE)
    low, high = cost.range()
    feasible = Feasible(SPACE, [(cost, (low + high) // 2)])
    rng = np.random.default_rng(seed)
    vectors = np.array([SPACE.encode(subnet) for subnet in dict.fromkeys(feasible.sample(rng, 400))])
    optimum = float(world.of(feasible.best(world)))
    bounds = []
    for count in (24, len(vectors)):
        worth = world.of_vectors(vectors[:count])
        certificate = certify(feasible, ScoreModel(FEATURES, vectors[:count], worth), worth, np.random.default_rng(0))
        assert optimum - worth.max() <= certificate.regret
        bounds.append(certificate.regret)
    assert bounds[1] < bounds[0]


def test_caution_widens_it():
    world = chain_world(SPACE, 0.25, 0)
    vectors = np.array([SPACE.encode(s) for s in Feasible(SPACE).sample(np.random.default_rng(0), 40)])
    worth = world.of_vectors(vectors)
    model = ScoreModel(FEATURES, vectors, worth)
    narrow, wide = (certify(Feasible(SPACE), model, worth, np.random.default_rng(0), c).regret for c in (1.0, 1.6))
    assert narrow < wide
