"""Many subnets on the same speech give what each gives alone."""

import numpy as np
import pytest
import torch

from supernet.shared import SharedEncoder, Speech


@pytest.fixture
def speech():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, 32, generator=generator) for length in (7, 7, 12)]


def test_hidden_states_equal_the_plain_forward_pass(model, small_space, speech):
    channels = model.space.network.conv_channels
    features = [torch.randn(len(each), channels, generator=torch.Generator().manual_seed(len(each))) for each in speech]
    rng = np.random.default_rng(0)
    subnets = [small_space.smallest, small_space.largest, *(small_space.sample(rng) for _ in range(8))]
    layers = range(small_space.network.num_layers + 1)
    shared = SharedEncoder(model.eval(), Speech(features)).read(subnets, layers, lambda _, hidden: hidden.clone())
    for subnet, states in zip(subnets, shared, strict=True):
        with torch.no_grad(), model.active(subnet):
            alone = [model.encode(each[None]).hidden_states for each in features]
        kept = small_space.kept_layers(subnet.depth)
        for layer, state in zip(layers, states, strict=True):
            position = sum(k < layer for k in kept)
            expected = torch.cat([hidden[position][0] for hidden in alone])
            torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-5)


def test_speech_comes_shortest_first(speech):
    with pytest.raises(ValueError, match="shortest first"):
        Speech(speech[::-1])
