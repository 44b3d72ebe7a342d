"""Probes: equal to scikit-learn's ridge, and what they say of a subnet does not depend on the others."""

import numpy as np
import pytest
import torch

from evaluators.scores.probes import ProbeScore, pooled, ridge, ridge_probe
from supernet.audio import read_manifest


@pytest.mark.parametrize(("count", "width"), [(40, 15), (30, 80)])
def test_ridge_is_scikit_learns(count, width):
    from sklearn.linear_model import RidgeCV

    rng = np.random.default_rng(0)
    x, test = rng.normal(2, 3, (count, width)), rng.normal(2, 3, (9, width))
    y = x[:, :2] @ rng.normal(size=(2, 3)) + rng.normal(size=(count, 3)) + 5
    mean, std = x.mean(0), x.std(0, ddof=1) + 1e-6
    theirs = RidgeCV(alphas=[1e0, 1e1, 1e2, 1e3, 1e4]).fit((x - mean) / std, y).predict((test - mean) / std)
    ours = ridge(*map(torch.from_numpy, (x, y, test)))
    assert np.allclose(ours.numpy(), theirs, atol=1e-6)


def test_a_probe_finds_classes_that_are_far_apart():
    x = torch.randn(60, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    names = ["a", "b", "c"] * 20
    for row, name in zip(x, names, strict=True):
        row["abc".index(name)] += 8
    assert ridge_probe(x[:30], names[:30], x[30:], names[30:]) == 1.0
    assert ridge_probe(x[:30], names[:30], x[30:], ["d"] * 30) == 0.0


def test_a_probe_of_the_speaker_explains_pitch_and_hears_some_speech_apart(model, speech):
    score = ProbeScore(model, "speaker", speech)
    space = model.space
    found = score([space.smallest, space.largest])
    assert 0 < found[0] < found[1] < 1
    assert score([space.largest]) == found[1:]
    assert score.higher_is_better
    assert score.settings["train"] == 33  # 3 of 36 have no speaker
    assert score.settings["dev"] == 22
    assert len(score._dev.targets) == 17
    assert len(score.held_out._dev.targets) == 5
    assert score.held_out([space.largest])[0] != found[1]


def test_states_shared_by_subnets_are_those_of_each_alone(model, speech):
    score, space = ProbeScore(model, "speaker", speech), model.space
    rng = np.random.default_rng(0)
    subnets = [space.smallest, space.largest, *(space.sample(rng) for _ in range(6))]
    shared = score._means(score._encoders[1], subnets)
    with torch.no_grad():
        for subnet, found in zip(subnets, shared, strict=True):
            encoder = model.extract(subnet).encoder
            alone = torch.stack(
                [pooled([state[0] for state in encoder(features[None])]) for features in score._dev.features[()]]
            )  # fmt: skip
            assert torch.allclose(found, alone, atol=1e-5)
    assert score.to("cpu")(subnets) == score(subnets)


def test_letters_are_probed_without_an_alignment(model, speech):
    assert ProbeScore(model, "text", speech)([model.space.largest])[0] > 0.3


def test_speech_is_taken_from_all_classes_alike(model, speech):
    score = ProbeScore(model, "speaker", speech, seconds=5.3)
    assert score.settings["train"] == 12
    assert score._targets.sum(0).tolist() == [4, 4, 4]
    assert len(read_manifest(speech)) == 60
