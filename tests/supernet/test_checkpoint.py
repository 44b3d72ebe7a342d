"""Our own folders: written, read back, and refused in one line when broken."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces import CheckpointError, SpaceError, get_space
from supernet import load_supernet, save_supernet, shipped
from tests.supernet.helpers import assert_refused


@pytest.fixture
def folder(model, tmp_path):
    return save_supernet(model, tmp_path / "supernet")


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


def test_unknown_names_list_the_shipped_ones():
    assert_refused("hubert-giant", "neither a file or folder nor a shipped name .*hubert-tiny")
    assert_refused("x" * 5000, "no supernet")


def test_broken_folders_are_refused(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layers.0.q.weight"
    for change, message in (
        ({name: None}, f"1 missing weights: {name}"),
        ({"wheels": torch.zeros(1)}, "1 unexpected weights: wheels"),
        ({name: torch.zeros(3, 3)}, r"q.weight must have the shape \(32, 32\); got \(3, 3\)"),
        ({name: weights[name] * float("nan")}, "q.weight contains NaN"),
    ):
        changed = {key: value for key, value in {**weights, **change}.items() if value is not None}
        save_file(changed, folder / "model.safetensors")
        assert_refused(folder, message)
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    assert_refused(folder, "cannot read .*model.safetensors")
    (folder / "model.safetensors").unlink()
    assert_refused(folder, "cannot read .*model.safetensors")
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "must have the format"),
        ('{"format": "x"}', "must have the format"),
    ):
        (folder / "config.json").write_text(text)
        assert_refused(folder, message)
    config = {"format": "lighthubert-nas supernet 1"}
    (folder / "config.json").write_text(json.dumps(config))
    assert_refused(folder, "missing or invalid 'head_layers'")
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", "holds no config.json")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_layers": ["x"]}, "missing or invalid"),
        ({"head_layers": 5}, "missing or invalid"),
        ({"head_layers": [4, 13]}, r"head_layers of .* must be increasing layer numbers of 1\.\.12"),
        ({"head_dim": -1}, "head_layers of .* must be increasing"),
        ({"frame_rule": "none"}, "frame_rule must be one of"),
        ({"provenance": "me"}, "missing or invalid"),
        ({"space": {"name": "x"}}, "supernet: "),
    ],
)
def test_broken_configs_are_refused(folder, fields, message):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))
    assert_refused(folder, message)


def test_a_part_of_the_stored_space_can_be_loaded(folder, model):
    part = replace(model.space, name="part", embed_dims=(16,))
    loaded = load_supernet(folder, space=part)
    assert (loaded.space, loaded.subnet) == (part, part.largest)
    assert loaded.fingerprint() == model.fingerprint()
    with pytest.raises(CheckpointError, match="another network"):
        load_supernet(folder, space=get_space("hubert-tiny"))


def test_a_failed_write_keeps_the_previous_files(folder, model):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    model.provenance["teacher"] = object()  # JSON cannot hold it
    with pytest.raises(TypeError):
        save_supernet(model, folder, torch.float16)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    model.provenance["teacher"] = "t"
    (folder.parent / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write .*config\.json: File exists"):
        save_supernet(model, folder.parent / "file")


def test_a_network_that_was_not_trained_for_a_space_takes_any_of_its_sizes(tmp_path):
    from search_spaces.proposals import proposed_space
    from supernet.order import convert
    from tests.supernet.families import saved

    saved("hubert-base", tmp_path / "source")
    model = load_supernet(tmp_path / "source")
    assert not model.trained_for_space
    converted = convert(str(tmp_path / "source"), tmp_path / "ours")
    for each in (model, converted):
        each.use_space(proposed_space(each.space.network, "uniform"))
        assert len(each.space.depths) > 1
    assert load_supernet("hubert-tiny").trained_for_space
    with pytest.raises(SpaceError, match=r"is not in space|keeps other layers"):
        load_supernet("hubert-tiny").use_space(proposed_space(load_supernet("hubert-tiny").space.network, "fine"))
