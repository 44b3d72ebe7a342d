"""Batches of expected improvement, against sampling; neighbours, against enumeration."""

import numpy as np
import pytest

from evaluators.scores import synthetic
from nas.score_model import ChoiceFeatures, ScoreModel
from nas.searchers.improvement import expected_improvement, most_improving, neighbours
from nas.testing.worlds import tiny_space

SPACE = tiny_space()
SCORE = synthetic(SPACE, seed=1, noise=0.02)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    subnets = list(dict.fromkeys(SPACE.sample(rng) for _ in range(90)))
    vectors = np.array([SPACE.encode(subnet) for subnet in subnets])
    return ScoreModel(ChoiceFeatures(SPACE), vectors[:40], np.array(SCORE(subnets[:40]))), vectors[40:]


def test_expected_improvement_is_the_mean_gain_over_many_draws(world):
    model, candidates = world
    posterior = model.posterior(candidates)
    best = float(np.quantile(posterior.means, 0.8))
    rng = np.random.default_rng(0)
    draws = np.array([model.draw(rng).of_vectors(candidates) for _ in range(4000)])
    draws += model.noise * rng.standard_normal(draws.shape)
    sampled = np.maximum(draws - best, 0).mean(0)
    assert expected_improvement(posterior, best, model.noise) == pytest.approx(sampled, abs=0.1 * sampled.max())


def test_the_posterior_of_several_subnets_is_that_of_draws(world):
    model, candidates = world
    rng = np.random.default_rng(1)
    draws = np.array([model.draw(rng).of_vectors(candidates[:8]) for _ in range(6000)])
    posterior = model.posterior(candidates[:8])
    spread = posterior.variances.max()
    assert posterior.means == pytest.approx(draws.mean(0), abs=0.1 * np.sqrt(spread))
    assert posterior.covariance() == pytest.approx(np.cov(draws.T), abs=0.1 * spread)
    assert posterior.variances == pytest.approx(np.diag(posterior.covariance()), rel=1e-6)


def test_the_first_of_a_batch_promises_most_and_the_batch_has_no_row_twice(world):
    model, candidates = world
    best = float(model.predict(candidates).max())
    alone = expected_improvement(model.posterior(candidates), best, model.noise)
    rows, gain = most_improving(model, candidates, best, 12)
    assert rows[0] == alone.argmax()
    assert gain == pytest.approx(alone.max())
    assert len(set(rows.tolist())) == 12


@pytest.mark.parametrize("depth", [2, 3])
def test_neighbours_change_one_layer_or_two_beside_each_other(depth):
    rng = np.random.default_rng(depth)
    subnet = next(s for s in iter(lambda: SPACE.sample(rng), None) if s.depth == depth)
    vector = SPACE.encode(subnet)
    rows = neighbours(SPACE, vector)
    choices, pairs = 6, depth - 1  # six choices in each of this space's layers
    assert len(rows) == 1 + depth * (choices - 1) + pairs * (choices - 1) ** 2
    assert all(SPACE.contains(SPACE.decode(row)) for row in rows)
    assert (rows[:, :2] == vector[:2]).all()
