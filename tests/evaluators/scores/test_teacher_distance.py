"""The distillation score: what is shared changes nothing, and some speech is set apart."""

import numpy as np
import pytest
import torch

from evaluators import scores
from search_spaces import NasError, Subnet, space_from_dict
from supernet import HubertSupernet, load_supernet
from supernet.calibration import CalibrationSpeech
from tests.supernet.families import saved


@pytest.fixture(scope="module")
def score():
    """Of hubert-tiny, on a third of its speech: utterances of one length among them."""
    model = load_supernet("hubert-tiny")
    model.calibration = model.calibration.part(range(0, len(model.calibration.targets), 3))
    return scores.distillation(model)


def family(space, seed):
    """Subnets that share first layers, widths and halves of layers, some twice."""
    rng = np.random.default_rng(seed)
    first = space.sample(rng)
    return [first, *(space.mutate(first, rng, 0.1) for _ in range(5)), space.largest, space.smallest, first]


def test_subnets_scored_together_get_what_they_get_alone(score):
    subnets = family(score.model.space, 0)
    assert score(subnets) == [score([subnet])[0] for subnet in subnets]


def test_the_score_is_that_of_the_plain_forward_pass(score):
    subnets = family(score.model.space, 1)
    np.testing.assert_allclose(score(subnets), score.one_by_one(subnets), rtol=1e-6)


def test_speech_in_several_parts_gives_the_same(score, monkeypatch):
    monkeypatch.setattr("evaluators.scores.teacher_distance.MAX_FRAMES_AT_ONCE", 150)
    parts = scores.distillation(score.model)
    assert len(parts._parts) > 2
    subnets = family(score.model.space, 2)[:3]
    np.testing.assert_allclose(parts(subnets), score(subnets), rtol=1e-6)


def test_heads_of_dropped_layers_read_the_last_kept_before(small_model):
    """Heads on layers that some depths drop (4, 8, 12) and on the first, which every depth keeps."""
    space = small_model.space
    subnets = [Subnet(D, (1,) * depth, (1.5,) * depth) for D in space.embed_dims for depth in space.depths]
    score = scores.distillation(small_model)
    np.testing.assert_allclose(score(subnets), score.one_by_one(subnets), rtol=1e-6)


def test_a_ridge_stands_for_heads_that_are_not_there(small_model):
    without = HubertSupernet(small_model.space).eval()
    without.load_state_dict({k: v for k, v in small_model.state_dict().items() if not k.startswith("heads")})
    without.calibration = small_model.calibration
    score = scores.distillation(without)
    subnets = [small_model.space.smallest, small_model.space.largest]
    np.testing.assert_allclose(score(subnets), score.one_by_one(subnets), rtol=1e-6)


def test_without_heads_the_last_hidden_state_is_compared_where_all_have_one_width(speech, tmp_path):
    saved("whisper", tmp_path)
    model = load_supernet(tmp_path)
    score, space = scores.distillation(model, audio=speech, seconds=6), model.space
    subnets = [space.largest, space.smallest, *(space.sample(np.random.default_rng(i)) for i in range(3))]
    found = score(subnets)
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert min(found[1:]) > 1e-3
    np.testing.assert_allclose(found, score.one_by_one(subnets), rtol=1e-5, atol=1e-9)
    assert score.held_out(subnets[1:]) == pytest.approx(found[1:], rel=0.2)


def test_new_weights_give_new_scores(small_model):
    score, subnet = scores.distillation(small_model), small_model.space.largest
    before = score([subnet])
    with torch.no_grad():
        small_model.encoder.layers[3].fc2.weight.mul_(1.5)
    assert score([subnet]) != before
    np.testing.assert_allclose(score([subnet]), score.one_by_one([subnet]), rtol=1e-6)


def test_bf16_keeps_nearly_the_same_order(score):
    rng = np.random.default_rng(3)
    subnets = [score.model.space.sample(rng) for _ in range(12)]
    exact, low = score(subnets), scores.distillation(score.model, precision="bf16")(subnets)
    np.testing.assert_allclose(low, exact, rtol=1e-2)
    assert np.corrcoef(exact, low)[0, 1] > 0.99


def test_an_unknown_precision_is_refused_in_one_line(score):
    with pytest.raises(NasError, match="precision must be one of fp32, bf16; got 'int4'"):
        scores.distillation(score.model, precision="int4")


def test_one_utterance_in_four_is_set_apart():
    score = scores.distillation(load_supernet("hubert-tiny"))
    held_out = score.held_out
    assert held_out.held_out is None
    assert held_out.seconds == pytest.approx(score.seconds / 3, rel=0.3)
    largest, smallest = held_out([score.model.space.largest, score.model.space.smallest])
    assert largest < smallest


@pytest.fixture
def small_model():
    """A narrow supernet with every weight at random, with heads on layers that some depths drop."""
    space = space_from_dict({
        "name": "small", "embed_dims": [16, 32], "heads": [1, 2], "ffn_ratios": [1.5, 2.0], "depths": [9, 10, 12],
        "network": {
            "conv_layers": [[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2], "width": 32, "heads": 2,
            "ffn_dim": 64, "head_dim": 16, "pos_conv_kernel": 16, "pos_conv_groups": 4,
        },
    })  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    model = HubertSupernet(space, (1, 4, 8, 12), 40).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    lengths = (12, 12, 17, 30, 30)
    model.calibration = CalibrationSpeech(
        [torch.randn(T, 16, generator=generator) for T in lengths],
        [torch.randn(T, 4, 40, generator=generator) for T in lengths],
    )
    return model
