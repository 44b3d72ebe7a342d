"""Whisper's decoder and tokenizer: kept beside a converted encoder, so that exports can be whole models."""

import json

import pytest
import torch

from search_spaces import CheckpointError
from supernet import load_supernet
from supernet.companion import REST, rest_of_model, save_rest
from supernet.order import convert
from tests.supernet.families import saved


def test_the_rest_of_a_whole_model_is_kept(tmp_path):
    theirs = saved("whisper", tmp_path / "source")
    rest = rest_of_model(tmp_path / "source")
    stored = {name for name in theirs.state_dict() if not name.startswith("model.encoder.")}
    assert set(rest.weights) == stored - {"proj_out.weight"}  # tied to the embeddings, so stored once
    assert [file.name for file in rest.files] == ["generation_config.json", "preprocessor_config.json"]
    (tmp_path / "ours").mkdir()
    again = rest_of_model(save_rest(tmp_path / "source", tmp_path / "ours"))
    assert again.config == rest.config
    assert all(torch.equal(again.weights[name], value) for name, value in rest.weights.items())


def test_a_converted_whisper_brings_it_along(tmp_path):
    saved("whisper", tmp_path / "source")
    model = convert(str(tmp_path / "source"), tmp_path / "ours")
    assert model.source == tmp_path / "ours" / REST
    assert rest_of_model(model.source).weights


def test_an_encoder_alone_has_no_rest(tmp_path):
    theirs = saved("whisper", tmp_path / "source")
    theirs.get_encoder().save_pretrained(tmp_path / "source")
    config = json.loads((tmp_path / "source" / "config.json").read_text())
    assert config["model_type"] == "whisper"
    assert load_supernet(tmp_path / "source").space.largest.depth == 3
    assert save_rest(tmp_path / "source", tmp_path) is None
    (tmp_path / "source" / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="Git LFS pointer"):
        rest_of_model(tmp_path / "source")
