"""The score model: what it learns, and that its uncertainty is that of the textbook."""

import numpy as np
import pytest

from evaluators.scores import synthetic
from nas.score_model import ChoiceFeatures, ScoreModel
from nas.testing.worlds import tiny_space
from nas.warp import Warp
from tests.spaces import COARSE

SPACE = COARSE
FEATURES = ChoiceFeatures(SPACE)


def drawn(space, n, seed):
    rng = np.random.default_rng(seed)
    subnets = [space.sample(rng) for _ in range(n)]
    return subnets, np.array([space.encode(subnet) for subnet in subnets])


def test_an_additive_score_is_learned_and_extrapolated():
    score = synthetic(SPACE, seed=3)
    subnets, vectors = drawn(SPACE, 200, 0)
    model = ScoreModel(FEATURES, vectors, np.array(score(subnets)))
    others, unseen = drawn(SPACE, 100, 1)
    truth = np.array(score(others))
    assert np.square(model.predict(unseen) - truth).mean() < 0.02 * truth.var()


def test_neighbours_are_learned_where_the_score_has_them():
    score = synthetic(SPACE, seed=3, interactions=1.0)
    subnets, vectors = drawn(SPACE, 600, 0)
    model = ScoreModel(FEATURES, vectors, np.array(score(subnets)))
    assert model.table().pairs
    plain = synthetic(SPACE, seed=3)
    assert not ScoreModel(FEATURES, vectors, np.array(plain(subnets))).table().pairs


@pytest.mark.parametrize("n", [40, 700])  # fewer and more evaluations than features
def test_the_table_predicts_what_the_model_does(n):
    score = synthetic(SPACE, seed=3, interactions=0.3, noise=0.01)
    subnets, vectors = drawn(SPACE, n, 0)
    model = ScoreModel(FEATURES, vectors, np.array(score(subnets)))
    assert model.warp.back(model.table().of_vectors(vectors)) == pytest.approx(model.predict(vectors), abs=1e-9)


def test_losses_that_multiply_are_learned_by_a_warp_and_sums_by_none():
    """The loss of a subnet is the product of its layers': a sum over layers once it is warped."""
    score = synthetic(SPACE, seed=3)
    subnets, vectors = drawn(SPACE, 400, 0)
    sums = np.array(score(subnets))
    products = -np.exp(-1.5 * (sums - sums.mean()) / sums.std())
    added, multiplied = (ScoreModel(FEATURES, vectors[:100], each[:100]) for each in (sums, products))
    assert multiplied.warp.width < 0.5 * products[:100].std()
    assert added.warp.width > 2 * sums[:100].std()
    plain = ScoreModel(FEATURES, vectors[:100], products[:100], warp=Warp())
    errors = [np.square(model.predict(vectors[100:]) - products[100:]).mean() for model in (multiplied, plain)]
    assert errors[0] < 0.3 * errors[1]


def test_without_refit_it_keeps_what_the_earlier_model_found():
    score = synthetic(SPACE, seed=3)
    subnets, vectors = drawn(SPACE, 60, 0)
    scores = -np.exp(-np.array(score(subnets)))
    before = ScoreModel(FEATURES, vectors[:50], scores[:50])
    after = ScoreModel(FEATURES, vectors, scores, before, refit=False)
    assert (after.variances, after.warp) == (before.variances, before.warp)


@pytest.mark.parametrize("n", [20, 400])
def test_mean_and_draws_are_those_of_the_posterior(n):
    """Against the posterior written out in the space of subnets: Rasmussen and Williams 2006, eq. 2.25 and 2.26."""
    space = tiny_space()
    features = ChoiceFeatures(space)
    score = synthetic(space, seed=1, noise=0.1)
    subnets, vectors = drawn(space, n, 0)
    scores = np.array(score(subnets))
    model = ScoreModel(features, vectors, scores, warp=Warp())
    _, unseen = drawn(space, 6, 1)
    prior = np.concatenate([np.full(at.stop - at.start, model.variances[name]) for name, at in features.slices.items()])
    x, z = features(vectors), features(unseen)
    known = (x * prior) @ x.T + model.variances["noise"] * np.eye(n)
    across = (z * prior) @ x.T
    mean = scores.mean() + across @ np.linalg.solve(known, scores - scores.mean())
    assert model.predict(unseen) == pytest.approx(mean, abs=1e-5)
    spread = scores.std() * np.sqrt(np.diag((z * prior) @ z.T - across @ np.linalg.solve(known, across.T)))
    rng = np.random.default_rng(0)
    draws = np.array([model.draw(rng).of_vectors(unseen) for _ in range(1500)])
    assert draws.std(0) == pytest.approx(spread, rel=0.12, abs=1e-3)


def test_a_constant_score_is_no_trouble():
    _, vectors = drawn(SPACE, 30, 0)
    model = ScoreModel(FEATURES, vectors, np.full(30, 0.7))
    assert model.predict(vectors) == pytest.approx(np.full(30, 0.7))
    assert np.isfinite(model.draw(np.random.default_rng(0)).of_vectors(vectors)).all()


def test_a_score_of_the_embed_dim_alone_can_be_drawn_from_after_many_evaluations():
    """Its noise is next to nothing, so the posterior is as sharp as it gets."""
    _, vectors = drawn(SPACE, 4000, 0)
    scores = np.array([float(SPACE.embed_dims[row[0]]) for row in vectors])
    found = ScoreModel(FEATURES, vectors, scores).draw(np.random.default_rng(1)).of_vectors(vectors)
    assert np.abs(found - scores).max() < 0.05 * scores.std()
