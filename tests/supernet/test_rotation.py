"""A rotated residual stream: the same network at full width, and slices that are the same on every path."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluators.costs import macs, params
from evaluators.costs.counters import closed_macs
from evaluators.tasks.features import Frozen
from search_spaces import NasError, SpaceError, Subnet
from search_spaces.proposals import proposed_space
from supernet import load_supernet, save_supernet
from supernet.export import export_subnet
from supernet.order import order_by_importance
from supernet.rotation import principal_directions, rotated
from supernet.shared import SharedEncoder, Speech
from tests.supernet.families import saved

WAVES = [0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (8_000, 9_600, 16_000)]
NAMES = ["whisper", "xls-r"]


def turned(name, folder):
    saved(name, folder)
    model = load_supernet(folder)
    space = proposed_space(replace(model.space.network, rotated=True), "fine")
    return model, rotated(copy.deepcopy(model), WAVES, space)


@pytest.fixture(params=NAMES)
def pair(request, tmp_path):
    return turned(request.param, tmp_path / "theirs")


def narrow(space, seed):
    """A subnet under the full width, with heads and FFN units in some layer."""
    rng = np.random.default_rng(seed)
    while True:
        subnet = space.sample(rng)
        if subnet.embed_dim < space.network.width and any(subnet.heads) and any(subnet.ffn_dims):
            return subnet


@torch.no_grad()
def test_the_whole_network_gives_what_it_gave(pair):
    model, new = pair
    basis = principal_directions(model.extract(model.space.largest).eval(), WAVES)
    assert torch.allclose(basis.T @ basis, torch.eye(len(basis), dtype=basis.dtype), atol=1e-8)
    wav = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([16_000, 9_000])
    before, after = model(wav, lengths), new(wav, lengths)
    assert torch.allclose(before.last_hidden_state, after.last_hidden_state, atol=1e-4)
    assert torch.allclose(before.hidden_states[0], after.hidden_states[0], atol=1e-5)
    if model.space.network.mel:  # what the stream lacks is the mean over dims
        centred = before.hidden_states[1] - before.hidden_states[1].mean(-1, keepdim=True)
        assert torch.allclose(centred.square().sum(-1), after.hidden_states[1].square().sum(-1), rtol=1e-3)


@torch.no_grad()
def test_slices_are_the_same_supernet_shared_extracted_and_read_again(pair, tmp_path):
    _, new = pair
    order_by_importance(new, WAVES)
    save_supernet(new, tmp_path / "ours")
    again = load_supernet(tmp_path / "ours")
    assert again.space.network.rotated
    wave = new.heard(WAVES[0].numpy())[None]
    features = {end: Speech([own[0]]) for end, own in new.features_of_each(wave).items()}
    shared = SharedEncoder(new, features)
    for seed in range(4):
        subnet = narrow(new.space, seed)
        with new.active(subnet):
            expected = new(wave)
        assert expected.last_hidden_state.shape[-1] == new.space.network.width
        assert not expected.hidden_states[1][..., subnet.embed_dim :].any()
        ((read,),) = shared.read([subnet], [new.space.network.num_layers], lambda _, hidden: hidden)
        for other in (again.extract(subnet)(wave).last_hidden_state[0], read):
            assert torch.allclose(expected.last_hidden_state[0], other, atol=2e-4)


def test_costs_are_those_of_the_modules(pair):
    _, new = pair
    for seed in range(4):
        subnet = narrow(new.space, seed)
        net = new.extract(subnet)
        stored = sum(value.numel() for value in net.parameters())
        assert params(new, "exported").of(subnet) == stored
        assert closed_macs(net, 2.0) == macs(new, 2.0).of(subnet)


def test_exports_and_tasks_take_it_as_any_other(tmp_path):
    _, new = turned("whisper", tmp_path / "theirs")
    subnet = Subnet(18, (2, 1, 0), (2.0, 1.0, 0.5))
    new.space.check(subnet)
    export_subnet(new, subnet, tmp_path / "out", ["safetensors", "hf", "onnx", "torch-export", "s3prl"], {})
    upstream = Frozen(new.extract(subnet))
    assert upstream(WAVES[0].numpy()).shape[::2] == (4, new.space.network.width) == (upstream.layers, upstream.dim)


def test_networks_that_cannot_be_rotated_are_named(tmp_path):
    for name, said in (
        ("hubert-base", "only networks with norms first"),
        ("wavlm-large", "without relative positions"),
    ):
        saved(name, tmp_path / name)
        model = load_supernet(tmp_path / name)
        with pytest.raises(NasError, match=said):
            rotated(model, WAVES, model.space)
        with pytest.raises(SpaceError, match="can be rotated"):
            replace(model.space.network, rotated=True)
    _, new = turned("whisper", tmp_path / "whisper")
    with pytest.raises(NasError, match="rotated already"):
        rotated(new, WAVES, new.space)
