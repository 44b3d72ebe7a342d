"""Shared computation gives every subnet its own hidden states."""

import numpy as np
import pytest
import torch

from supernet.shared import SharedEncoder, Speech

FRAMES = (5, 9, 9, 14)
LAYERS = (4, 11, 12)


@pytest.fixture(scope="module")
def features():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(frames, 16, generator=generator) for frames in FRAMES]


def subnets_of(space, count):
    rng = np.random.default_rng(0)
    return [space.smallest, space.largest, space.middle, *(space.sample(rng) for _ in range(count))]


@torch.no_grad()
def alone(model, subnet, features):
    """For each of LAYERS, the frames of all utterances, each run by itself through the active subnet."""
    kept = model.space.kept_layers(subnet.depth)
    with model.active(subnet):
        states = [model.encode(each[None]).hidden_states for each in features]
    positions = [sum(k < layer for k in kept) for layer in LAYERS]
    return [torch.cat([hidden[position][0] for hidden in states]) for position in positions]


@pytest.mark.parametrize("at_once", [1, 3, 64])  # a GPU follows many branches at once
def test_hidden_states_equal_those_of_each_subnet_alone(supernet, features, at_once):
    subnets = subnets_of(supernet.space, 12)
    encoder = SharedEncoder(supernet, Speech(features))
    assert encoder.at_once == 1
    encoder.at_once = at_once
    states = encoder.read(subnets, LAYERS, lambda k, hidden: hidden)
    for subnet, row in zip(subnets, states, strict=True):
        for ours, expected in zip(row, alone(supernet, subnet, features), strict=True):
            assert ours.shape == (sum(FRAMES), subnet.embed_dim)
            assert torch.allclose(ours, expected, atol=1e-5)


def test_states_that_subnets_share_are_read_once(supernet, features):
    space = supernet.space
    calls = []
    encoder = SharedEncoder(supernet, Speech(features))
    rows = encoder.read([space.largest, space.largest], LAYERS, lambda k, hidden: calls.append(k) or len(calls))
    assert calls == [0, 1, 2]
    assert rows == [[1, 2, 3]] * 2
    calls.clear()
    encoder.read([space.largest, space.smallest], LAYERS, lambda k, hidden: calls.append(k))
    assert sorted(calls) == [0, 0, 1, 1, 2, 2]  # other embed dims share nothing


def test_changed_weights_are_noticed(model, features):
    encoder, subnet = SharedEncoder(model, Speech(features)), model.space.smallest
    before = encoder.read([subnet], (12,), lambda k, hidden: hidden.clone())[0][0]
    with torch.no_grad():
        model.encoder.layers[0].q.weight.mul_(3)
    after = encoder.read([subnet], (12,), lambda k, hidden: hidden.clone())[0][0]
    assert not torch.allclose(before, after, atol=1e-3)
    assert torch.allclose(after, alone(model, subnet, features)[2], atol=1e-5)


def test_lower_precision_is_near(supernet, features):
    subnet = supernet.space.middle
    half = SharedEncoder(supernet, Speech(features), torch.bfloat16).read([subnet], (12,), lambda k, hidden: hidden)
    full = alone(supernet, subnet, features)[2]
    assert half[0][0].dtype == torch.bfloat16
    assert (half[0][0].float() - full).abs().mean() < 0.05 * full.abs().mean()


def test_speech_is_batched_by_length(features):
    speech = Speech(features)
    assert [tuple(bucket.shape) for bucket in speech.buckets] == [(1, 5, 16), (2, 9, 16), (1, 14, 16)]
    assert speech.frames == sum(FRAMES)
    with pytest.raises(ValueError, match=r"shortest first; got lengths \[14, 9, 9, 5\]"):
        Speech(features[::-1])
