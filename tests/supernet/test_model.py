"""The supernet runs slices of its weights, which are never state."""

from dataclasses import replace

import pytest
import torch

from search_spaces import SpaceError, Subnet, get_space
from supernet import HubertSupernet, load_supernet

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


def test_the_previous_subnet_is_active_again_after_the_block(model, small_space):
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


@torch.no_grad()
def test_padding_does_not_change_the_frames_of_speech(model, small_space):
    """Apart from the group norm of the front end, which sees the padding: so compare from its features on."""
    features = model.front_end(WAV[:1])
    longer = torch.cat([features, torch.randn(1, 5, features.shape[2])], 1)
    mask = torch.arange(longer.shape[1])[None] < features.shape[1]
    for subnet in (small_space.smallest, small_space.largest):
        with model.active(subnet):
            alone = model.encode(features).last_hidden_state
            padded = model.encode(longer, mask).last_hidden_state[:, : features.shape[1]]
        assert torch.allclose(alone, padded, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_padding_changes_nothing_at_all_where_no_norm_is_over_time(small_space, norm):
    torch.manual_seed(0)
    other = HubertSupernet(
        replace(small_space, network=replace(small_space.network, conv_norm=norm)), (4, 12), 8
    ).eval()
    alone = other(WAV[1:, : LENGTHS[1]]).last_hidden_state
    together = other(WAV, LENGTHS).last_hidden_state[1:, : alone.shape[1]]
    assert torch.allclose(alone, together, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_and_is_near(model, small_space, dtype):
    with model.active(small_space.middle):
        full = model(WAV, LENGTHS).last_hidden_state
        with torch.autocast("cpu", dtype=dtype):
            half = model(WAV, LENGTHS).last_hidden_state.float()
    assert (full - half).abs().mean() < 0.05 * full.abs().mean()


@torch.no_grad()
def test_half_precision_is_near_on_shipped_weights():
    """Wide enough for oneDNN's AMX kernels, whose bf16 grouped convolution is wrong (docs/log.md)."""
    shipped = load_supernet("hubert-tiny").eval()
    with shipped.active(shipped.space.largest):
        full = shipped(WAV).last_hidden_state
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = shipped(WAV).last_hidden_state.float()
    assert (full - half).norm() < 0.05 * full.norm()


def test_a_part_of_the_space_can_be_chosen_but_no_other_space(model, small_space):
    part = replace(small_space, embed_dims=(16,))
    model.use_space(part)
    assert model.space == part
    assert model.subnet == part.largest
    with pytest.raises(SpaceError, match="another network"):
        model.use_space(get_space("hubert-tiny"))
    with pytest.raises(SpaceError, match="embed_dim=32 is not in space"):
        model.use_space(small_space)


def test_a_choice_between_those_trained_is_refused(model, small_space):
    """The ends of the space and its middle are trained; one choice of one layer is not."""
    ratios = tuple((1.5, 1.75, 2.0) if i == 5 else own for i, own in enumerate(small_space.ffn_ratios))
    with pytest.raises(SpaceError, match=r"ffn_ratios\[5\]=1.75 is not in space"):
        model.use_space(replace(small_space, ffn_ratios=ratios))
    assert model.space == small_space


def test_a_space_that_keeps_other_layers_is_refused(model, small_space):
    other = replace(small_space, depth_map={**small_space.depth_map, 10: tuple(range(2, 12))})
    with pytest.raises(SpaceError, match="keeps other layers at depth 10"):
        model.use_space(other)
    assert model.space == small_space


@torch.no_grad()
def test_heads_read_their_layer_or_the_last_kept_before_it(model, small_space):
    """Depth 10 drops layers 8 and 12: its last state is the output of layer 11."""
    with model.active(small_space.smallest):
        assert model.head_positions() == [4, 10]
        hidden = model(WAV).hidden_states
        predictions = model.predict(hidden)
    with model.active(small_space.largest):
        assert model.head_positions() == [4, 12]
    for head, position, prediction in zip(model.heads, (4, 10), predictions, strict=True):
        assert torch.allclose(prediction, hidden[position] @ head.weight[:, :16].T, atol=1e-5)
