"""What a preprocessor says of its model's input is followed: by supernets, teachers, exports, on quiet speech too."""

import json

import numpy as np
import pytest
import torch

from search_spaces import CheckpointError
from supernet import HubertSupernet, load_extracted, load_supernet, save_supernet
from supernet.export import export_subnet
from supernet.preprocessor import Preprocessor, read_preprocessor
from supernet.teacher import load_teacher

QUIET = (0.0019 * np.random.default_rng(0).standard_normal(9000)).astype(np.float32)


def folder_with(teacher_folder, tmp_path, **settings):
    """The Hugging Face model with random norms, and the preprocessor's `settings`."""
    from transformers import HubertModel, Wav2Vec2FeatureExtractor

    net = HubertModel.from_pretrained(teacher_folder)
    torch.manual_seed(1)
    for value in net.parameters():
        value.data.add_(0.1 * torch.randn_like(value))
    net.save_pretrained(tmp_path / "hf")
    Wav2Vec2FeatureExtractor(return_attention_mask=False, **settings).save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


def theirs(folder, samples):
    """Hidden states by transformers, from the samples to the last layer."""
    from transformers import AutoFeatureExtractor, AutoModel

    inputs = AutoFeatureExtractor.from_pretrained(folder)(samples, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        return AutoModel.from_pretrained(folder).eval()(inputs.input_values, output_hidden_states=True).hidden_states


@torch.no_grad()
def ours(net, samples):
    return net(torch.from_numpy(net.prepare(samples))[None]).hidden_states


@pytest.mark.parametrize("do_normalize", [True, False])
def test_a_quiet_recording_is_heard_as_transformers_hears_it(teacher_folder, tmp_path, do_normalize):
    folder = folder_with(teacher_folder, tmp_path, do_normalize=do_normalize)
    model = load_supernet(folder)
    expected = theirs(folder, QUIET)
    assert torch.allclose(ours(model, QUIET)[-1], expected[-1], atol=1e-4)
    teacher = load_teacher(folder, [3])
    normed = torch.nn.functional.layer_norm(expected[-1], expected[-1].shape[-1:])
    assert torch.allclose(teacher([QUIET], normed.shape[1])[:, 0], normed, atol=1e-4)

    save_supernet(model, tmp_path / "ours")
    export_subnet(
        load_supernet(tmp_path / "ours"), model.space.largest, tmp_path / "x", ["safetensors", "hf", "s3prl"], {}
    )
    assert json.loads((tmp_path / "x/hf/preprocessor_config.json").read_text())["do_normalize"] is do_normalize
    assert torch.allclose(theirs(tmp_path / "x/hf", QUIET)[-1], expected[-1], atol=1e-4)
    assert torch.allclose(ours(load_extracted(tmp_path / "x"), QUIET)[-1], expected[-1], atol=1e-4)
    from supernet.export.s3prl_folder import load_expert

    with torch.no_grad():
        hidden = load_expert(tmp_path / "x/s3prl").eval()([torch.from_numpy(QUIET)])["hidden_states"]
    assert torch.allclose(hidden[-1], expected[-1], atol=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sampling_rate": 8000}', "sampling_rate of .* must be 16000"),
        ('{"do_normalize": "no"}', "do_normalize of .* must be true or false"),
        ("[]", "must hold a JSON object"),
        ("{", "cannot read"),
        ("[" * 100_000, "cannot read"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(tmp_path, text, message):
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_preprocessor(tmp_path)


@pytest.mark.parametrize("fields", [[], {"eps": 0}, {"eps": "x"}, {"normalize": 1}, {"sampling_rate": 8000}, {"x": 1}])
def test_the_input_of_our_own_config_is_checked(small_space, tmp_path, fields):
    save_supernet(HubertSupernet(small_space), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "input": fields}))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_supernet(tmp_path)


def test_without_settings_the_defaults_are_those_of_each_package(small_space, tmp_path):
    assert read_preprocessor(tmp_path) == Preprocessor(True, 1e-7)
    assert HubertSupernet(small_space).prepare == Preprocessor(True, 1e-5)
    assert load_supernet("hubert-tiny").prepare == Preprocessor()
