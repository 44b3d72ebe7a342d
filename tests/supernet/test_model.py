import pytest
import torch

from search_spaces import SpaceError, Subnet, get_space
from supernet.slicing import ffn_segments

WAV = torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([8_000, 5_000])


def test_only_the_slice_gets_gradients_and_only_it_matters(model, small_space):
    subnet = small_space.smallest
    with model.active(subnet):
        before = model(WAV).last_hidden_state
        before.square().sum().backward()
    kept = {name: value.grad is not None and value.grad != 0 for name, value in model.encoder.named_parameters()}
    assert kept["layers.0.q.weight"].sum() <= subnet.heads[0] * 16 * subnet.embed_dim
    assert kept["layers.11.q.weight"] is False  # depth 10 drops the 12th layer
    with torch.no_grad():
        model.encoder.layers[0].q.weight[16:] = 9.0
        model.encoder.layers[0].fc1.weight[:, 16:] = 9.0
        model.encoder.layers[11].out.weight.fill_(9.0)
        model.encoder.norm.weight[16:] = 9.0
        with model.active(subnet):
            assert torch.equal(model(WAV).last_hidden_state, before)
        assert not torch.equal(model(WAV).last_hidden_state, before)


def test_the_subnet_before_comes_back_whatever_happens(model, small_space):
    assert model.subnet == small_space.largest
    with model.active(small_space.smallest):
        with model.active(small_space.middle):
            assert model.subnet == small_space.middle
        assert model.subnet == small_space.smallest
    with pytest.raises((RuntimeError, ValueError)), model.active(small_space.smallest):
        model(torch.zeros(1, 5))  # too short for the front end
    assert model.subnet == small_space.largest
    with (
        pytest.raises(SpaceError, match="embed_dim=64 is not in space"),
        model.active(Subnet(64, (1,) * 10, (2.0,) * 10)),
    ):
        pass


def test_slices_are_views_and_no_state_is_kept(model, small_space):
    names = set(model.state_dict())
    with model.active(small_space.smallest):
        weights = model.sliced_weights()
        model(WAV)
    stored = model.encoder.layers[0].q.weight
    assert weights["layers.0.q.weight"].data_ptr() == stored.data_ptr()
    assert set(model.state_dict()) == names


def test_ffn_units_come_in_blocks():
    """LightHuBERT, FACTS: ratio 3.5 at E = 640 takes 640 + 640 + 640 + 320 of four blocks of 768."""
    network = get_space("lighthubert-base").network
    assert ffn_segments(network, 640, 2240) == [slice(0, 640), slice(768, 1408), slice(1536, 2176), slice(2304, 2624)]
    assert ffn_segments(network, 768, 2688) == [slice(0, 2688)]
    assert ffn_segments(network, 256, 768) == [slice(0, 256), slice(768, 1024), slice(1536, 1792)]


def test_a_part_of_the_space_can_be_chosen_but_no_other_space(model, small_space):
    from dataclasses import replace

    part = replace(small_space, embed_dims=(16,))
    model.use_space(part)
    assert model.space == part
    assert model.subnet == part.largest
    with pytest.raises(SpaceError, match="another network"):
        model.use_space(get_space("hubert-tiny"))
    with pytest.raises(SpaceError, match="embed_dim=32 is not in space"):
        model.use_space(small_space)
