"""Spaces whose front end is a choice, and whose layers may lack a half: trained, scored, searched, ordered."""

import dataclasses

import numpy as np
import pytest
import torch

import nas
from evaluators import costs, scores
from supernet import load_supernet, save_supernet
from supernet.importance import measure_importance
from supernet.order import convert, order_channels
from supernet.teacher import load_teacher
from supernet.training.distil import distil
from tests.supernet.conftest import random_supernet
from tests.supernet.training.helpers import RECIPE


@pytest.fixture(scope="module")
def space(small_space):
    return dataclasses.replace(
        small_space,
        name="elastic",
        heads=((0, 1, 2),) * 12,
        ffn_ratios=((0.0, 1.5, 2.0),) * 12,
        depth_map={12: tuple(range(12))},
        front_ends=((8,) * 7, (8, 8, 8, 16, 16, 16, 16), (16,) * 7),
    )


def test_a_trained_supernet_brings_the_features_of_each_front_end(space, corpus, teacher_folder, tmp_path):
    recipes = [dataclasses.replace(RECIPE, stage=stage, steps=3) for stage in (1, 2)]
    model = load_supernet(distil(space, load_teacher(teacher_folder), corpus, tmp_path, recipes))
    assert model.space == space
    assert set(model.calibration.narrower) == set(space.front_ends[:-1])
    score, rng = scores.distillation(model), np.random.default_rng(0)
    subnets = [space.smallest, space.largest, *(space.sample(rng) for _ in range(6))]
    assert np.allclose(score(subnets), score.one_by_one(subnets), rtol=1e-4)
    assert len({round(value, 6) for value in score(subnets)}) > 4
    result = nas.search(space, score, {"params": costs.params(model)}, evals=12)
    assert result.best is not None


def test_scores_from_recordings_hear_every_front_end(space, corpus):
    model = random_supernet(space)
    score, rng = scores.distillation(model, audio=corpus, seconds=8.0), np.random.default_rng(1)
    subnets = [space.sample(rng) for _ in range(5)]
    assert np.allclose(score(subnets), score.one_by_one(subnets), rtol=1e-4)


@torch.no_grad()
def test_ordering_channels_leaves_the_whole_model_as_it_is(space, corpus, tmp_path):
    model, wav = random_supernet(space), torch.randn(2, 8_000)
    before = model(wav).last_hidden_state
    measured = measure_importance(model, [torch.randn(9_000), torch.randn(6_000)], channels=True)
    for importance in ((), measured.channels):
        after = order_channels(model, importance)(wav).last_hidden_state
        assert torch.allclose(before, after, atol=1e-4 * float(before.abs().max()))
    save_supernet(model, tmp_path / "ours")
    again = convert(str(tmp_path / "ours"), tmp_path / "ordered", audio=corpus)
    difference = again(wav).last_hidden_state - before
    assert float(difference.abs().max() / before.abs().max()) < 1e-4
