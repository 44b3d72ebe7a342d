import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces import CheckFailed, CheckpointError, NasError, RunError
from supernet import HubertSupernet, load_supernet, save_supernet, shipped
from supernet.export import EXPORTERS, export_subnet


@pytest.fixture
def model(small_space):
    torch.manual_seed(0)
    return HubertSupernet(small_space, (4, 12), 8, provenance={"teacher": "t"}).eval()


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
        ({"model_type": "wavlm"}, "must be 'hubert'"),
        ({"model_type": "hubert", "conv_bias": True}, "conv_bias of .* must be False"),
        ({"model_type": "hubert"}, "neither model.safetensors nor pytorch_model.bin"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        one_line(tmp_path, said)


def test_exports_are_written_whole_or_not_at_all(model, small_space, tmp_path, monkeypatch):
    files = export_subnet(model, small_space.middle, tmp_path / "new" / "out", list(EXPORTERS), {"command": "nas"})
    assert [file.name for file in files] == ["config.json", "lighthubert.json", "model.safetensors", "subnet.json"]
    with pytest.raises(RunError, match="is not empty"):
        export_subnet(model, small_space.middle, tmp_path / "new" / "out", ["json"], {})
    with pytest.raises(NasError, match="unknown export format 'gguf'; known: json, safetensors"):
        export_subnet(model, small_space.middle, tmp_path / "other", ["json", "gguf"], {})
    monkeypatch.setattr("supernet.export.safetensors_file.largest_difference", lambda *_: 1.0)
    with pytest.raises(CheckFailed, match="differs from the supernet's slice"):
        export_subnet(model, small_space.middle, tmp_path / "other", list(EXPORTERS), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


def test_extracted_folders_that_are_broken(model, small_space, tmp_path):
    from supernet import load_extracted, save_extracted

    folder = save_extracted(model.extract(small_space.middle), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for change, said in (
        ({"subnet": {}}, "does not describe a subnet"),
        ({"frame_rule": "none"}, "frame_rule of"),
        ({"subnet": small_space.smallest.to_dict()}, "unexpected weights"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(CheckpointError, match=said):
            load_extracted(folder)
