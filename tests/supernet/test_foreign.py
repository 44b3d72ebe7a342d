"""Checkpoints of other packages: read in every variant, refused in one line when unsafe or unsupported."""

import argparse
import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces import CheckpointError, get_space
from supernet import HubertSupernet, load_supernet
from supernet.foreign import lighthubert_weights
from tests.supernet.helpers import NARROW, assert_refused


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_malicious_pickles_run_no_code(tmp_path):
    marker = tmp_path / "marker"
    torch.save({"cfg": {}, "model": {"w": Hostile(marker)}}, tmp_path / "hostile.pt")
    assert_refused(tmp_path / "hostile.pt", "is not safe to read")
    assert not marker.exists()
    hugging_face = tmp_path / "hf"
    hugging_face.mkdir()
    (hugging_face / "config.json").write_text('{"model_type": "hubert"}')
    torch.save({"w": Hostile(marker)}, hugging_face / "pytorch_model.bin")
    assert_refused(hugging_face, "is not safe to read")
    assert not marker.exists()


def test_files_that_are_not_checkpoints_are_refused(tmp_path):
    file = tmp_path / "file.pt"
    for content in (b"", b"RIFF not a model", b"PK\x03\x04 torn"):
        file.write_bytes(content)
        assert_refused(file, "cannot read|is not safe to read")
    torch.save({"model": {"w": torch.zeros(1)}, "cfg": {}}, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert_refused(file, "cannot read")
    for content, message in (
        ([1, 2], "must contain a dict with 'cfg' and 'model'"),
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
        assert_refused(file, message)


def test_other_hugging_face_models_are_refused(tmp_path):
    for config, message in (
        ({"model_type": "bert"}, "model_type of .* must be one of hubert, wav2vec2, .*, whisper; got 'bert'$"),
        ({"model_type": "hubert"}, "neither model.safetensors nor pytorch_model.bin"),
        ({"model_type": "whisper", "scale_embedding": True}, "scale_embedding of .* must be False"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert_refused(tmp_path, message)


@pytest.mark.filterwarnings("ignore:Sparse invariant:UserWarning")
def test_tensors_that_are_not_plain_numbers_are_refused(tmp_path):
    file = tmp_path / "file.pt"
    for value in (
        torch.eye(3).to_sparse(),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(3, device="meta"),
        torch.zeros(1, dtype=torch.float16).expand(10**14),  # a small file that asks for 400 TB
    ):
        torch.save({"cfg": {"model": {"_name": "hubert"}}, "model": {"mask_emb": value}}, file)
        assert_refused(file, "mask_emb must be a plain tensor of real numbers")


def test_duplicate_weights_and_heads_of_missing_layers_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    value = torch.zeros(768)
    save_file({"masked_spec_embed": value, "hubert.masked_spec_embed": value + 1}, tmp_path / "model.safetensors")
    assert_refused(tmp_path, "one weight under two names: .*masked_spec_embed and .*masked_spec_embed")
    for heads in ({"layer_pred_heads.12.weight": torch.zeros(8, 768)}, {"layer_pred_heads.3.weight": torch.zeros(())}):
        torch.save({"cfg": {"model": {"_name": "hubert"}}, "model": heads}, tmp_path / "file.pt")
        assert_refused(tmp_path / "file.pt", r"layer_pred_heads must be matrices of layers 0\.\.11")


def test_args_that_are_not_a_namespace_are_ignored(tmp_path):
    torch.save({"args": [1], "model": {"w": torch.zeros(1)}}, tmp_path / "file.pt")
    assert_refused(tmp_path / "file.pt", "1 unexpected weights: w")


def test_hugging_face_folders_are_read_in_every_variant(tmp_path):
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


def test_a_space_can_be_chosen_for_a_hugging_face_network(tmp_path):
    from transformers import HubertConfig, HubertModel

    HubertModel(HubertConfig(**NARROW)).save_pretrained(tmp_path)
    whole = load_supernet(tmp_path).space
    assert (whole.name, whole.size) == ("hubert-16", (3 * 9) ** 2)  # the fine space
    space = replace(whole, name="mine", heads=((1, 2),) * 2)
    assert load_supernet(tmp_path, space=space).space == space
    with pytest.raises(CheckpointError, match=r"is of another network than the one that .* describes"):
        load_supernet(tmp_path, space=get_space("hubert-tiny"))


def test_hugging_face_configs_that_describe_no_network_are_refused(tmp_path):
    for change in ({"hidden_size": -1}, {"hidden_size": "wide"}, {"num_attention_heads": 0}, {"num_hidden_layers": 0}):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert", **NARROW, **change}))
        save_file({"masked_spec_embed": torch.zeros(16)}, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError) as caught:
            load_supernet(tmp_path)
        assert "\n" not in str(caught.value)


def test_lighthubert_weights_are_read_back_equal(tmp_path):
    torch.manual_seed(0)
    model = HubertSupernet(get_space("lighthubert-small"), (3, 12), 8)
    weights = lighthubert_weights(model)
    assert {name for name in weights if "pred_heads" in name} == {f"layer_pred_heads.{n}.weight" for n in (2, 11)}
    assert "encoder.layers.11.self_attn.out_proj.bias" in weights
    settings = {"_name": "hubert_pruner", "pruner_supernet": "small.yaml"}
    torch.save({"cfg": {"model": settings}, "model": weights}, tmp_path / "file.pt")
    again = load_supernet(tmp_path / "file.pt")
    assert (again.head_layers, again.head_dim, again.frame_rule) == ((3, 12), 8, "fairseq")
    assert again.provenance == {"source": "LightHuBERT small", "ignored_keys": []}
    assert again.fingerprint() == model.fingerprint()
    del weights["layer_pred_heads.2.weight"]
    weights["layer_pred_heads.011.weight"] = weights["layer_pred_heads.11.weight"]  # no second head of layer 11
    torch.save({"cfg": {"model": settings}, "model": weights}, tmp_path / "file.pt")
    assert_refused(tmp_path / "file.pt", "1 unexpected weights: layer_pred_heads")


def test_settings_of_files_from_before_hydra_are_read(tmp_path):
    args = argparse.Namespace(arch="hubert_base", layer_norm_first=True)
    torch.save({"args": args, "model": {"w": torch.zeros(1)}}, tmp_path / "file.pt")
    assert_refused(tmp_path / "file.pt", "layer_norm_first=True; pre-norm")
