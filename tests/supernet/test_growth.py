"""A supernet in a wider network starts as what it was."""

import copy

import numpy as np
import pytest
import torch

from search_spaces import SpaceError, space_from_dict
from supernet.growth import grown
from supernet.order import convert, order_by_importance
from tests.supernet.conftest import SPACE, random_supernet

WAV = torch.randn(2, 6_000, generator=torch.Generator().manual_seed(1))
NETWORK = {**SPACE["network"], "width": 48, "heads": 3, "ffn_dim": 96}
WIDER = {**SPACE, "embed_dims": [16, 32, 48], "heads": [1, 2, 3], "network": NETWORK}


@pytest.fixture(scope="module")
def wider():
    return space_from_dict(WIDER)


@torch.no_grad()
def outputs(model, subnet):
    with model.active(subnet):
        states = model(WAV, torch.tensor([6_000, 4_000])).hidden_states
        return [*states, *model.predict(states)]


def test_slices_no_wider_than_before_are_as_they_were(supernet, wider):
    larger, rng = grown(supernet, wider), np.random.default_rng(0)
    for subnet in (supernet.space.largest, *(supernet.space.sample(rng) for _ in range(8))):
        for ours, expected in zip(outputs(larger, subnet), outputs(supernet, subnet), strict=True):
            assert torch.allclose(ours, expected, atol=1e-5)
    assert larger.provenance == supernet.provenance
    assert larger.space == wider


def test_the_new_part_is_read_with_weights_of_0_and_can_learn(supernet, wider):
    larger = grown(supernet, wider)
    layer = larger.encoder.layers[0]
    for part in (layer.q, layer.k, layer.v, layer.fc1):
        assert not part.weight[:, 32:].any()
    assert not layer.out.weight[:, 32:].any()
    assert not layer.fc2.weight[:, 32:48].any()  # the new units of the first block
    assert layer.out.weight[32:, :32].any()
    assert all(value.isfinite().all() for value in larger.state_dict().values())
    hidden = larger(WAV).hidden_states[-1]
    hidden.square().mul(torch.arange(48.0)).mean().backward()
    assert layer.q.weight.grad[:, 32:].any()
    assert layer.fc2.weight.grad[:, 32:48].any()


def test_what_stays_of_dropped_units_is_folded_into_the_whole(model, wider):
    order_by_importance(model, list(WAV))
    larger = grown(model, wider)
    assert larger.compensation == "none"
    for ours, expected in zip(outputs(larger, model.space.largest), outputs(model, model.space.largest), strict=True):
        assert torch.allclose(ours, expected, atol=1e-4)


def test_other_networks_and_smaller_ones_are_refused(supernet, wider):
    other = space_from_dict({**WIDER, "network": {**NETWORK, "pos_conv_groups": 8}})
    with pytest.raises(SpaceError, match="of another network than 'small': only width, heads, ffn_dim can grow"):
        grown(supernet, other)
    with pytest.raises(SpaceError, match="of a smaller network than 'small': width 48 -> 32, heads 3 -> 2"):
        grown(grown(supernet, wider), supernet.space)


def test_convert_grows_a_supernet(small_space, wider, tmp_path):
    from supernet import save_supernet

    model = random_supernet(small_space)
    save_supernet(copy.deepcopy(model), tmp_path / "small")
    larger = convert(str(tmp_path / "small"), tmp_path / "larger", wider, sort=False)
    assert larger.space == wider
    for ours, expected in zip(outputs(larger, small_space.middle), outputs(model, small_space.middle), strict=True):
        assert torch.allclose(ours, expected, atol=1e-5)


def test_convert_adds_choices_to_a_supernet(small_space, tmp_path):
    from supernet import save_supernet

    model = random_supernet(small_space)
    save_supernet(copy.deepcopy(model), tmp_path / "few")
    finer = space_from_dict({**SPACE, "heads": [0, 1, 2], "front_ends": [4, 8]})
    larger = convert(str(tmp_path / "few"), tmp_path / "many", finer, sort=False)
    assert larger.space == finer
    for name, value in model.state_dict().items():
        assert torch.equal(larger.state_dict()[name], value)
    larger.use_space(small_space)
