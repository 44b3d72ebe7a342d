"""Exports of every family: `export_subnet` reads each format back and compares it; stock classes where they can be."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from search_spaces import Subnet
from supernet import load_supernet
from supernet.export import export_subnet
from tests.supernet.families import MODELS, saved, saved_whole_whisper

STOCK = {
    "hubert-large": "HubertModel", "hubert-no-input-norm": "HubertModel", "wav2vec2-large": "Wav2Vec2Model",
    "wavlm-base": "WavLMModel", "wavlm-large": "WavLMModel", "data2vec": "Data2VecAudioModel",
    "unispeech-sat-large": "UniSpeechSatModel", "whisper": "WhisperForConditionalGeneration",
}  # fmt: skip


@pytest.fixture(scope="module", params=STOCK)
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    saved(request.param, folder)
    model = load_supernet(folder)
    channels = model.space.network.channels
    narrow = (*(c // 2 for c in channels[:-1]), channels[-1] if model.space.network.mel else channels[-1] // 2)
    return request.param, load_supernet(folder, space=replace(model.space, front_ends=(narrow, ()), name="elastic"))


def uneven(space):
    """Unequal layers, one without attention, one without FFN, and a narrow front end."""
    D, most = space.network.width, max(space.ffn_ratios[0])
    front_end = space.front_ends[0] if space.elastic_front_end else ()
    return Subnet(D, (2, 0, 1), (most, most / 2, 0.0), front_end)


def config_of(folder):
    return json.loads((folder / "hf" / "config.json").read_text())


def test_a_uniform_subnet_is_a_stock_model(source, tmp_path):
    name, model = source
    space = model.space
    subnet = Subnet(space.network.width, space.largest.heads[1:], (space.ffn_ratios[0][3],) * 2)
    part = replace(space, depth_map={2: (0, 2)}, front_ends=((),), name="part")
    model.space, before = replace(part, ffn_ratios=(space.ffn_ratios[0][1:],) * 3), space
    try:
        export_subnet(model, subnet, tmp_path / "out", ["hf"], {})
    finally:
        model.space = before
    assert config_of(tmp_path / "out")["architectures"] == [STOCK[name]]
    assert not (tmp_path / "out" / "hf" / "modeling_subnet.py").exists()


def test_an_uneven_subnet_is_exported_in_every_format(source, tmp_path):
    _, model = source
    formats = ["json", "safetensors", "hf", "s3prl", "torch-export"]
    files = export_subnet(model, uneven(model.space), tmp_path / "out", formats, {})
    assert {file.name for file in files} >= {"modeling_subnet.py", "subnet.pt", "model.safetensors", "model.pt2"}


@torch.no_grad()
def test_a_whisper_generates_with_the_decoder_of_its_source(tmp_path):
    from transformers import AutoModelForSpeechSeq2Seq, WhisperFeatureExtractor

    theirs = saved("whisper", tmp_path / "source")
    model = load_supernet(tmp_path / "source")
    export_subnet(model, model.space.largest, tmp_path / "whole", ["hf"], {})
    export_subnet(model, uneven(model.space), tmp_path / "part", ["hf"], {})
    wave = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    mel = WhisperFeatureExtractor(feature_size=80, chunk_length=2)(wave, sampling_rate=16_000, return_tensors="pt")
    expected = theirs.generate(mel.input_features, max_new_tokens=6)
    whole = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "whole" / "hf")
    assert torch.equal(whole.generate(mel.input_features, max_new_tokens=6), expected)
    part = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "part" / "hf", trust_remote_code=True)
    tokens = part.generate(mel.input_features, max_new_tokens=6)
    assert tokens.shape[0] == 1
    with model.active(uneven(model.space)):
        ours = model(torch.nn.functional.pad(torch.from_numpy(wave)[None], (0, 12_000))).last_hidden_state
    assert torch.allclose(part.get_encoder()(mel.input_features).last_hidden_state, ours, atol=1e-4)


def test_settings_of_generate_that_are_old_get_the_tables_of_the_tokenizer(tmp_path, monkeypatch):
    from transformers import GenerationConfig

    from supernet.decoder import TextDecoder

    saved_whole_whisper(tmp_path / "source")
    GenerationConfig.from_model_config(saved("whisper", tmp_path / "other").config).save_pretrained(tmp_path / "source")
    model = load_supernet(tmp_path / "source")
    monkeypatch.setattr(TextDecoder, "languages", property(lambda self: {"en": 30}))
    monkeypatch.setattr(TextDecoder, "tasks", property(lambda self: {"transcribe": 31}))
    TextDecoder.of(model).multilingual = True
    export_subnet(model, model.space.largest, tmp_path / "out", ["hf"], {})
    written = GenerationConfig.from_pretrained(tmp_path / "out" / "hf")
    assert (written.lang_to_id, written.task_to_id) == ({"<|en|>": 30}, {"transcribe": 31})
    assert (written.is_multilingual, written.no_timestamps_token_id) == (True, 49)
    assert not written._from_model_config  # pipelines make such ones anew


def test_the_families_tested_are_those_of_the_models():
    assert set(STOCK) <= set(MODELS)
