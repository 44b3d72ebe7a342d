"""Checkpoints of LightHuBERT, Hugging Face and fairseq."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces import CheckpointError
from supernet import load_supernet


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def one_line(path, said):
    with pytest.raises(CheckpointError, match=said) as caught:
        load_supernet(path)
    assert "\n" not in str(caught.value)


NARROW = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "vocab_size": 5,
}  # fmt: skip


def test_hostile_pickles_run_nothing(tmp_path):
    marker = tmp_path / "marker"
    torch.save({"cfg": {}, "model": {"w": Hostile(marker)}}, tmp_path / "hostile.pt")
    one_line(tmp_path / "hostile.pt", "is not safe to read")
    assert not marker.exists()
    hugging_face = tmp_path / "hf"
    hugging_face.mkdir()
    (hugging_face / "config.json").write_text('{"model_type": "hubert"}')
    torch.save({"w": Hostile(marker)}, hugging_face / "pytorch_model.bin")
    one_line(hugging_face, "is not safe to read")
    assert not marker.exists()


def test_files_that_are_no_checkpoint(tmp_path):
    file = tmp_path / "file.pt"
    for content in (b"", b"RIFF not a model", b"PK\x03\x04 torn"):
        file.write_bytes(content)
        one_line(file, "cannot read|is not safe to read")
    torch.save({"model": {"w": torch.zeros(1)}, "cfg": {}}, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    one_line(file, "cannot read")
    for content, said in (
        ([1, 2], "must hold a dict with 'cfg' and 'model'"),
        ({"model": {}}, "holds no weights"),
        ({"model": {"w": 1}}, "'w' must be a tensor; got int"),
        ({"cfg": {"model": {"_name": "bert"}}, "model": {"w": torch.zeros(1)}}, "model must be hubert_pruner"),
        (
            {"cfg": {"model": {"_name": "hubert_pruner", "pruner_supernet": "x"}}, "model": {"w": torch.zeros(1)}},
            "base.yaml or small.yaml",
        ),
        (
            {"cfg": {"model": {"_name": "hubert", "layer_norm_first": True}}, "model": {"w": torch.zeros(1)}},
            "pre-norm .* is not supported",
        ),
        ({"cfg": {"model": {"_name": "hubert"}}, "model": {"w": torch.zeros(1)}}, "1 unexpected weights: w"),
        ({"cfg": {"model": {"_name": "hubert"}}, "model": {"mask_emb": torch.zeros(768)}}, "missing weights"),
    ):
        torch.save(content, file)
        one_line(file, said)


def test_pre_norm_and_foreign_hugging_face_models_are_refused(tmp_path):
    for config, said in (
        ({"model_type": "hubert", "do_stable_layer_norm": True}, "pre-norm model"),
        ({"model_type": "wavlm"}, "must be hubert or wav2vec2 .* gated relative positions"),
        ({"model_type": "whisper"}, "must be hubert or wav2vec2 .*can only be a teacher"),
        ({"model_type": "bert"}, "must be hubert or wav2vec2 to be searched; got 'bert'$"),
        ({"model_type": "hubert", "conv_bias": True}, "conv_bias of .* must be False"),
        ({"model_type": "hubert"}, "neither model.safetensors nor pytorch_model.bin"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        one_line(tmp_path, said)


def test_arguments_that_are_no_namespace_are_not_read(tmp_path):
    torch.save({"args": [1], "model": {"w": torch.zeros(1)}}, tmp_path / "file.pt")
    one_line(tmp_path / "file.pt", "1 unexpected weights: w")
    one_line("x" * 5000, "no supernet")


def test_hugging_face_folders_are_read_in_all_their_spellings(tmp_path):
    """With a CTC head, as a pickle, and with the names weight norm had before parametrizations."""
    from transformers import HubertConfig, HubertForCTC

    torch.manual_seed(0)
    HubertForCTC(HubertConfig(**NARROW)).save_pretrained(tmp_path)
    first = load_supernet(tmp_path)
    assert first.provenance["ignored_keys"] == ["lm_head.bias", "lm_head.weight"]
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in load_file(tmp_path / "model.safetensors").items()
    }
    assert any(name.endswith("weight_g") for name in old)
    (tmp_path / "model.safetensors").unlink()
    torch.save(old, tmp_path / "pytorch_model.bin")
    assert load_supernet(tmp_path).fingerprint() == first.fingerprint()


def test_a_space_may_be_given_for_a_hugging_face_network(tmp_path):
    from dataclasses import replace

    from transformers import HubertConfig, HubertModel

    from search_spaces import get_space

    HubertModel(HubertConfig(**NARROW)).save_pretrained(tmp_path)
    whole = load_supernet(tmp_path).space
    assert (whole.name, whole.size) == ("hubert-16", 1)
    space = replace(whole, name="mine", heads=((1, 2),) * 2)
    assert load_supernet(tmp_path, space=space).space == space
    with pytest.raises(CheckpointError, match=r"missing weights|must have the shape|unexpected weights"):
        load_supernet(tmp_path, space=get_space("hubert-tiny"))


def test_configs_of_hugging_face_that_make_no_network(tmp_path):
    for change in ({"hidden_size": -1}, {"hidden_size": "wide"}, {"num_attention_heads": 0}, {"num_hidden_layers": 0}):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert", **NARROW, **change}))
        save_file({"masked_spec_embed": torch.zeros(16)}, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError) as caught:
            load_supernet(tmp_path)
        assert "\n" not in str(caught.value)
