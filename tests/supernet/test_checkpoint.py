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


NARROW = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "vocab_size": 5,
}  # fmt: skip
