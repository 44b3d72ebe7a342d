import pytest
import torch

from search_spaces import RunError
from supernet.training.state import fitting, load_state, save_state


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    assert load_state(tmp_path, "recipe") is None
    save_state(tmp_path, {"recipe": {"steps": 3, "layers": (1.0, 2.0)}, "step": 2, "model": {"w": torch.ones(2)}})
    state = load_state(tmp_path, "recipe")
    assert (state["recipe"], state["step"]) == ({"steps": 3, "layers": (1.0, 2.0)}, 2)
    assert torch.equal(state["model"]["w"], torch.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_a_checkpoint_that_cannot_be_written_keeps_the_last_one(tmp_path, monkeypatch):
    save_state(tmp_path, {"recipe": {}, "step": 1})

    def full_disk(state, file):
        file.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr("torch.save", full_disk)
    message = "cannot write a checkpoint into .*: PytorchStreamWriter failed.*; the last checkpoint is kept"
    with pytest.raises(RunError, match=message):
        save_state(tmp_path, {"recipe": {}, "step": 2})
    assert load_state(tmp_path, "recipe")["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("content", [b"", b"torn", b"PK\x03\x04"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(RunError, match=r"cannot read checkpoint .*state\.pt: .*; delete it to start over"):
        load_state(tmp_path, "recipe")


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    save_state(tmp_path, {"settings": {}, "step": 1})
    with pytest.raises(RunError, match="'recipe'"):
        load_state(tmp_path, "recipe")


@pytest.mark.parametrize("step", [-5, float("nan"), 10**9, "1", None, True, 1.0])
def test_a_step_that_cannot_be_is_refused(tmp_path, step):
    save_state(tmp_path, {"recipe": {}, "step": step})
    with pytest.raises(RunError, match=r"cannot read checkpoint .*delete it to start over"):
        load_state(tmp_path, "recipe")


@pytest.mark.parametrize("error", [KeyError("model"), RuntimeError("size mismatch"), TypeError("x"), IndexError("y")])
def test_a_checkpoint_that_does_not_fit_is_one_line(tmp_path, error):
    with pytest.raises(RunError, match=r"state\.pt is not a checkpoint of this training"), fitting(tmp_path):
        raise error
