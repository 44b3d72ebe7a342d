"""Importance against masks that are really applied, and compensation: what is dropped leaves its mean."""

import copy

import numpy as np
import pytest
import torch

from supernet import load_supernet, save_supernet
from supernet.importance import RIDGE, compensate, measure_importance
from supernet.shared import SharedEncoder, Speech
from tests.supernet.families import saved

WAVES = [0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (8_000, 9_600)]
NAMES = ["hubert-base", "wavlm-large", "whisper"]


@pytest.fixture(params=NAMES)
def model(request, tmp_path):
    saved(request.param, tmp_path / "theirs")
    return load_supernet(tmp_path / "theirs")


@torch.no_grad()
def masked(net, wave, linear, mean, mask):
    """The last hidden state with `mask` on what the inputs of a linear layer deviate from their mean."""
    hook = linear.register_forward_pre_hook(lambda _, x: (mean + mask * (x[0] - mean),))
    last = net(wave[None]).last_hidden_state[0]
    hook.remove()
    return last


def test_importance_is_the_squared_derivative_of_the_output(model):
    """Central differences of heads and units in float64; the estimate has a standard error of a tenth or less."""
    found = measure_importance(model, WAVES * 150)
    net = copy.deepcopy(model).double().extract(model.space.largest).eval()
    with torch.no_grad():
        std = torch.cat([net(wave[None].double()).last_hidden_state[0] for wave in WAVES]).std(0, correction=0)
    for layer, part, index in ((0, "out", 0), (1, "out", 1), (0, "fc2", 3), (2, "fc2", 5)):
        linear = getattr(net.encoder.layers[layer], part)
        mean = found.means[layer][part == "fc2"].double()
        own = slice(index, index + 1)
        if part == "out":
            own = slice(index * net.network.head_dim, (index + 1) * net.network.head_dim)
        up, down = torch.ones_like(mean), torch.ones_like(mean)
        up[own] += 1e-3
        down[own] -= 1e-3
        expected = 0.0
        for wave in WAVES:
            sides = [masked(net, wave.double(), linear, mean, mask) for mask in (up, down)]
            expected += 150 * float(((sides[0] - sides[1]) / 2e-3 / std).square().sum())
        measured = (found.heads if part == "out" else found.units)[layer][index]
        assert float(measured) == pytest.approx(expected, rel=0.4)


@torch.no_grad()
def test_dropped_heads_and_units_leave_their_means(model, tmp_path):
    """A compensated slice is the whole network with the dropped activations set to their means."""
    whole = model.extract(model.space.largest)
    means = measure_importance(model, WAVES[:1]).means
    compensate(model, means)
    space, rng = model.space, np.random.default_rng(0)
    wave = WAVES[1]
    assert torch.allclose(model(wave[None]).last_hidden_state, whole(wave[None]).last_hidden_state, atol=1e-4)
    for subnet in [space.sample(rng) for _ in range(4)]:
        hooks = []
        for layer, heads, units, pair in zip(whole.encoder.layers, subnet.heads, subnet.ffn_dims, means, strict=True):
            if not heads and not units:  # the whole layer goes
                hooks.append(layer.register_forward_hook(lambda _, inputs, output: inputs[0]))
            for linear, kept, mean in (
                (layer.out, heads * whole.network.head_dim, pair[0]),
                (layer.fc2, units, pair[1]),
            ):

                def drop(_, inputs, kept=kept, mean=mean):
                    x = inputs[0].clone()
                    x[..., kept:] = mean[kept:]
                    return (x,)

                hooks.append(linear.register_forward_pre_hook(drop))
        expected = whole(wave[None]).last_hidden_state
        for hook in hooks:
            hook.remove()
        with model.active(subnet):
            ours = model(wave[None]).last_hidden_state
        assert torch.allclose(ours, expected, atol=1e-4)
        assert torch.allclose(model.extract(subnet)(wave[None]).last_hidden_state, ours, atol=1e-5)
        shared = SharedEncoder(model, Speech([model.features(wave[None])[0]]))
        ((read,),) = shared.read([subnet], [space.network.num_layers], lambda _, hidden: hidden.clone())
        assert torch.allclose(read, ours[0], atol=1e-4)


@torch.no_grad()
def test_a_compensated_supernet_is_saved_with_its_means(tmp_path):
    saved("whisper", tmp_path / "theirs")
    model = load_supernet(tmp_path / "theirs")
    found = measure_importance(model, WAVES[:1])
    compensate(model, found.means, found.covariances)
    again = load_supernet(save_supernet(model, tmp_path / "ours"))
    assert again.compensation == "regression"
    assert again.fingerprint() == model.fingerprint()
    for subnet in (model.space.smallest, model.space.largest):
        with model.active(subnet), again.active(subnet):
            assert torch.equal(model(WAVES[0][None]).last_hidden_state, again(WAVES[0][None]).last_hidden_state)


@torch.no_grad()
def test_what_kept_units_predict_of_dropped_ones_stays(model):
    """The halves of a slice are the regressions of the whole ones on the inputs that are kept, by numpy."""
    space = model.space
    whole = model.extract(space.largest)
    found = measure_importance(model, WAVES)
    seen = [[] for _ in range(2 * len(whole.encoder.layers))]
    parts = [part for layer in whole.encoder.layers for part in (layer.out, layer.fc2)]
    hooks = [
        part.register_forward_hook(lambda _, inputs, output, own=own: own.append((inputs[0][0], output[0])))
        for part, own in zip(parts, seen, strict=True)
    ]
    for wave in WAVES:
        whole(wave[None])
    for hook in hooks:
        hook.remove()
    compensate(model, found.means, found.covariances)
    assert torch.allclose(model(WAVES[0][None]).last_hidden_state, whole(WAVES[0][None]).last_hidden_state, atol=1e-4)
    subnet = space.sample(np.random.default_rng(3))
    sliced = model.extract(subnet)
    kept = [size for pair in zip(subnet.heads, subnet.ffn_dims, strict=True) for size in pair]
    checked = 0
    for i, (own, part) in enumerate(zip(seen, parts, strict=True)):
        layer = sliced.encoder.layers[i // 2]
        size = kept[i] * whole.network.head_dim if i % 2 == 0 else kept[i]
        if not size or size == part.in_features:
            continue
        x, y = (torch.cat(values).double().numpy() for values in zip(*own, strict=True))
        deviations = x - x.mean(0)
        ridge = np.sqrt(RIDGE * (deviations**2).mean() * len(x)) * np.eye(size)
        weights = part.weight.double().numpy()
        known = (y - y.mean(0), np.zeros((size, y.shape[1])))
        inputs = np.concatenate([deviations[:, :size], ridge])
        # the ridge is on inputs: what it hides of the kept ones stays theirs
        target = np.concatenate([known[0], ridge @ weights[:, :size].T])
        slope = np.linalg.lstsq(inputs, target, rcond=None)[0].T
        ours = (layer.out if i % 2 == 0 else layer.fc2).weight.double().numpy()
        np.testing.assert_allclose(ours, slope, atol=2e-3 * np.abs(slope).max())
        checked += 1
    assert checked > 1


def test_channels_of_a_front_end_are_measured_where_they_can_be_dropped(tmp_path):
    saved("hubert-base", tmp_path / "theirs")
    model = load_supernet(tmp_path / "theirs")
    found = measure_importance(model, WAVES, channels=True)
    assert [len(each) for each in found.channels] == [conv.out_channels for conv in model.front_end.convs]
    assert all((each > 0).all() for each in found.channels)
    assert measure_importance(model, WAVES).channels == []
    assert torch.allclose(found.heads[0], measure_importance(model, WAVES).heads[0])
