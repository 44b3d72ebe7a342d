"""Successive evaluation: exact where it goes on, an honest estimate where it stops."""

import numpy as np
import pytest

from evaluators import scores
from evaluators.scores.successive import SuccessiveScore
from search_spaces import NasError
from supernet import HubertSupernet, load_supernet


@pytest.fixture(scope="module")
def model():
    return load_supernet("hubert-tiny")


@pytest.fixture(scope="module")
def plain(model):
    return scores.distillation(model)


@pytest.fixture(scope="module")
def successive(model):
    return SuccessiveScore(model)


def some(space, n):
    rng = np.random.default_rng(0)
    return [space.largest, space.smallest, *(space.sample(rng) for _ in range(n))]


def test_without_a_rival_it_is_the_whole_score(plain, successive):
    subnets = some(plain.model.space, 4)
    np.testing.assert_allclose(successive(subnets), plain(subnets), rtol=1e-6)
    np.testing.assert_allclose(successive.held_out(subnets), plain.held_out(subnets), rtol=1e-6)


def test_rivals_get_the_whole_score_and_the_others_an_estimate(plain, successive):
    subnets = some(plain.model.space, 12)
    truth = plain(subnets)
    best = int(np.argmin(truth[1:])) + 1
    found = successive.against(subnets, subnets[best], truth[best])
    assert [out for _, out in found[:2]] == [False, True]
    for (value, ruled_out), true in zip(found, truth, strict=True):
        assert value == pytest.approx(true, abs=0.02) if ruled_out else value == pytest.approx(true, rel=1e-6)
        assert not ruled_out or true > truth[best]
    assert successive.against([], subnets[best], truth[best]) == []


def test_the_margin_decides(plain):
    subnets = some(plain.model.space, 6)
    (score,) = plain(subnets[:1])
    for margin, expected in ((1e9, 0), (0.0, 7)):
        found = SuccessiveScore(plain.model, margin=margin).against(subnets, subnets[0], score)
        assert sum(out for _, out in found) == expected


def test_settings_tell_that_scores_may_be_estimates(plain, successive):
    assert successive.settings == {**plain.settings, "successive": 3.0}


def test_it_needs_heads_and_enough_speech(model):
    few = model.calibration.part(range(12))
    whole, model.calibration = model.calibration, few
    with pytest.raises(NasError, match=r"needs 4 utterances in a quarter of the speech; got 2: give more recordings"):
        SuccessiveScore(model)
    model.calibration = whole
    without = HubertSupernet(model.space).eval()
    without.calibration = whole
    with pytest.raises(NasError, match="needs a supernet with prediction heads"):
        SuccessiveScore(without)
    with pytest.raises(NasError, match="successive evaluation is for the score distillation; got 'probe:speaker'"):
        scores.get_score("probe:speaker", model, successive=True)
