import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces import CheckpointError
from supernet import load_supernet, save_supernet, shipped


@pytest.fixture
def folder(model, tmp_path):
    return save_supernet(model, tmp_path / "supernet")


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def one_line(path, said):
    with pytest.raises(CheckpointError, match=said) as caught:
        load_supernet(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_our_folder_describes_itself(model, tmp_path, dtype):
    again = load_supernet(save_supernet(model, tmp_path, dtype))
    assert (again.space, again.head_layers, again.provenance) == (model.space, (4, 12), {"teacher": "t"})
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a.to(dtype).float(), b), name
    assert not again.training


def test_the_shipped_supernet_is_whole():
    assert "hubert-tiny" in shipped()
    model = load_supernet("hubert-tiny")
    assert model.space.size > 10**9
    assert model.calibration is not None
    assert sum(len(f) for f in model.calibration.features) >= 50 * 60
    assert len(model.head_layers) == 3


def test_names_that_are_nothing_list_what_is_shipped():
    one_line("hubert-giant", "neither a file or folder nor a shipped name .*hubert-tiny")


def test_folders_that_are_broken(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layers.0.q.weight"
    for change, said in (
        ({name: None}, f"1 missing weights: {name}"),
        ({"wheels": torch.zeros(1)}, "1 unexpected weights: wheels"),
        ({name: torch.zeros(3, 3)}, r"q.weight must have the shape \(32, 32\); got \(3, 3\)"),
        ({name: weights[name] * float("nan")}, "q.weight holds NaN"),
    ):
        changed = {key: value for key, value in {**weights, **change}.items() if value is not None}
        save_file(changed, folder / "model.safetensors")
        one_line(folder, said)
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    one_line(folder, "cannot read .*model.safetensors")
    (folder / "model.safetensors").unlink()
    one_line(folder, "cannot read .*model.safetensors")
    for text, said in (
        ("{", "is not JSON"),
        ("[]", "must have the format"),
        ('{"format": "x"}', "must have the format"),
    ):
        (folder / "config.json").write_text(text)
        one_line(folder, said)
    config = {"format": "lighthubert-nas supernet 1"}
    (folder / "config.json").write_text(json.dumps(config))
    one_line(folder, "lacks or misspells 'head_layers'")
    (tmp_path / "empty").mkdir()
    one_line(tmp_path / "empty", "holds no config.json")


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


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"head_layers": ["x"]}, "lacks or misspells"),
        ({"head_layers": 5}, "lacks or misspells"),
        ({"head_layers": [4, 13]}, "head_layers of .* must be rising layers of 1..12"),
        ({"head_dim": -1}, "head_layers of .* must be rising"),
        ({"frame_rule": "none"}, "frame_rule must be one of"),
        ({"provenance": "me"}, "lacks or misspells"),
        ({"space": {"name": "x"}}, "supernet: "),
    ],
)
def test_configs_that_are_broken(folder, fields, said):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))
    one_line(folder, said)


@pytest.mark.filterwarnings("ignore:Sparse invariant:UserWarning")
def test_tensors_that_are_not_plain_numbers(tmp_path):
    file = tmp_path / "file.pt"
    for value in (
        torch.eye(3).to_sparse(),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(3, device="meta"),
        torch.zeros(1, dtype=torch.float16).expand(10**14),  # a small file that asks for 400 TB
    ):
        torch.save({"cfg": {"model": {"_name": "hubert"}}, "model": {"mask_emb": value}}, file)
        one_line(file, "mask_emb must be a plain tensor of real numbers")


def test_weights_under_two_names_and_heads_of_no_layer_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    value = torch.zeros(768)
    save_file({"masked_spec_embed": value, "hubert.masked_spec_embed": value + 1}, tmp_path / "model.safetensors")
    one_line(tmp_path, "one weight under two names: .*masked_spec_embed and .*masked_spec_embed")
    for heads in ({"layer_pred_heads.12.weight": torch.zeros(8, 768)}, {"layer_pred_heads.3.weight": torch.zeros(())}):
        torch.save({"cfg": {"model": {"_name": "hubert"}}, "model": heads}, tmp_path / "file.pt")
        one_line(tmp_path / "file.pt", r"layer_pred_heads must be matrices of layers 0\.\.11")


def test_arguments_that_are_no_namespace_are_not_read(tmp_path):
    torch.save({"args": [1], "model": {"w": torch.zeros(1)}}, tmp_path / "file.pt")
    one_line(tmp_path / "file.pt", "1 unexpected weights: w")
    one_line("x" * 5000, "no supernet")


NARROW = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "vocab_size": 5,
}  # fmt: skip


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
