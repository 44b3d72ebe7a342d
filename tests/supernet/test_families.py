"""Every family of Hugging Face: equal to transformers, for the largest subnet and for slices, padded and unpadded."""

import json

import numpy as np
import pytest
import torch

from evaluators import costs
from evaluators.costs.counters import closed_macs
from search_spaces import CheckpointError
from supernet import extract_subnet, load_supernet, save_supernet
from supernet.families import FAMILIES
from supernet.layers import LogMel
from supernet.shared import SharedEncoder, Speech
from tests.supernet.families import MODELS, saved, states


@pytest.fixture(scope="module", params=MODELS)
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return saved(request.param, folder), folder, load_supernet(folder)


def close(a, b, tolerance=1e-5):
    return float((a - b).abs().max() / b.abs().max()) < tolerance


def speech(samples=32_000, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.nn.functional.layer_norm(torch.randn(batch, samples, generator=generator), (samples,))


@torch.no_grad()
def test_the_largest_subnet_is_the_source_model(family):
    theirs, _, model = family
    wav = speech()
    assert close(model.extract_features(wav).last_hidden_state, states(theirs, wav))
    lengths = torch.tensor([32_000, 17_000])
    wav[1, 17_000:] = 0
    ours, expected = model.extract_features(wav, lengths), states(theirs, wav, lengths)
    assert ours.mask.sum(1).tolist() == [model.space.network.frames(int(n)) for n in lengths]
    for row, mask in zip(zip(ours.last_hidden_state, expected), ours.mask, strict=True):
        assert close(row[0][mask], row[1][mask])


@torch.no_grad()
def test_random_subnets_are_equal_in_every_form(family, tmp_path):
    _, _, model = family
    space, rng, wav = model.space, np.random.default_rng(0), speech(9_000)
    subnets = [space.smallest, space.largest, *(space.sample(rng) for _ in range(18))]
    lengths = torch.tensor([9_000, 6_000])
    features = [model.features(row[None])[0] for row in wav]
    shared = SharedEncoder(model, Speech(features))
    last = shared.read(subnets, [1, space.network.num_layers], lambda k, hidden: hidden.clone())
    shared.at_once = 8  # as on a GPU
    stacked = shared.read(subnets, [1, space.network.num_layers], lambda k, hidden: hidden.clone())
    for subnet, read, other in zip(subnets, last, stacked, strict=True):
        assert all(close(own, value) for own, value in zip(other, read, strict=True))
        net = extract_subnet(model, subnet)
        with model.active(subnet):
            for given in (None, lengths):
                ours, plain = model.extract_features(wav, given), net.extract_features(wav, given)
                for a, b in zip(ours.hidden_states, plain.hidden_states, strict=True):
                    assert close(a, b, 1e-6)
            alone = [model.encode(each[None]).hidden_states for each in features]
        for k, at in enumerate((1, -1)):
            assert close(read[k], torch.cat([states[at][0] for states in alone]))
        assert costs.macs(model, 9_000 / 16_000).of(subnet) == closed_macs(net, 9_000 / 16_000)
        assert costs.params(model, "exported").of(subnet) == sum(value.numel() for value in net.parameters())
    save_supernet(model, tmp_path / "ours")
    again = load_supernet(tmp_path / "ours")
    assert again.fingerprint() == model.fingerprint()
    assert again.space == space


def test_the_spectrogram_is_whispers():
    from transformers import WhisperFeatureExtractor

    wav = np.random.default_rng(0).normal(size=48_000).astype(np.float32) * np.linspace(0, 1, 48_000, dtype=np.float32)
    for mels in (80, 128):
        theirs = WhisperFeatureExtractor(feature_size=mels, chunk_length=3)(wav, sampling_rate=16_000)
        ours = LogMel(mels)(torch.from_numpy(wav)[None])
        assert torch.allclose(ours[0], torch.from_numpy(theirs.input_features[0]), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, f"model_type of .* must be one of {', '.join(FAMILIES)}; got 'bert'"),
        ({"quantization_config": {"bits": 8}}, "is quantised .*: give the folder of its float weights"),
        ({"conv_pos_batch_norm": True}, "conv_pos_batch_norm of .* must be False; got True"),
        ({"add_adapter": True}, "add_adapter of .* must be False; got True"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim of .* must be None; got 16"),
        ({"hidden_act": "relu"}, "hidden_act of .* must be 'gelu'; got 'relu'"),
        ({"hidden_size": 32, "num_attention_heads": 4}, "must have the shape .*; got"),
        ({"num_hidden_layers": 4}, "missing weights: encoder.layers.3"),
        ({"do_stable_layer_norm": 1}, "do_stable_layer_norm must be true or false; got 1"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm must be group or layer; got 'batch'"),
        ({"num_attention_heads": 5}, "hidden_size=24 must be a multiple of num_attention_heads=5"),
        ({"hidden_size": "big"}, "hidden_size must be a positive whole number; got 'big'"),
        ({"num_conv_pos_embedding_groups": 7}, "multiples of pos_conv_groups=7"),
    ],
)
def test_what_cannot_be_computed_is_refused_in_one_line(tmp_path, changes, message):
    saved("hubert-base", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_supernet(tmp_path)
    assert "\n" not in str(caught.value)
