"""Every key of a file is accounted for, and tensors are plain."""

import re

import pytest
import torch
from safetensors.torch import save_file

from search_spaces import CheckpointError
from supernet.weights import KeyTable, checked, plain_tensors, read_tensors, rename_keys, with_weights

TABLE = KeyTable({"layers.{n}.lin.{p}": "blocks.{n}.fc.{p}", "norm.{p}": "ln.{p}", "old_norm.{p}": "ln.{p}"})
IGNORED = re.compile(r"labels\.\d")


@pytest.mark.parametrize(
    ("name", "translated"),
    [
        ("layers.11.lin.bias", "blocks.11.fc.bias"),
        ("norm.weight", "ln.weight"),
        ("layers.x.lin.bias", None),
        ("layers.1.lin.scale", None),
        ("layersX1Xlin.bias", None),  # a dot is a dot
        ("my.norm.weight", None),
    ],
)
def test_a_table_translates_whole_names_only(name, translated):
    assert TABLE.translate(name) == translated


def test_the_inverse_table_translates_back():
    back = KeyTable({"a.{n}.{p}": "b.{n}.{p}", "c": "d"}).inverse()
    assert [back.translate(name) for name in ("b.3.weight", "d", "c")] == ["a.3.weight", "c", None]


def test_keys_are_renamed_without_their_prefix_and_ignored_ones_are_listed():
    tensors = {"model.norm.weight": torch.ones(1), "layers.0.lin.bias": torch.zeros(2), "labels.1": torch.zeros(3)}
    renamed, ignored = rename_keys("file", {**tensors, "labels.0": torch.zeros(1)}, TABLE, IGNORED, "model.")
    assert renamed == {"ln.weight": tensors["model.norm.weight"], "blocks.0.fc.bias": tensors["layers.0.lin.bias"]}
    assert ignored == ["labels.0", "labels.1"]


def test_unexpected_and_duplicate_keys_are_refused():
    value = torch.zeros(1)
    names = [f"wheel{i}" for i in range(7)]
    with pytest.raises(CheckpointError) as caught:
        rename_keys("file", dict.fromkeys(names, value), TABLE, IGNORED)
    assert str(caught.value) == "file has 7 unexpected weights: wheel0, wheel1, wheel2, wheel3, wheel4 and 2 more"
    with pytest.raises(CheckpointError, match=r"one weight under two names: norm.bias and old_norm.bias"):
        rename_keys("file", {"norm.bias": value, "old_norm.bias": value}, TABLE, IGNORED)


def test_safetensors_become_float32(tmp_path):
    save_file({"a": torch.tensor([1.5, -2.0], dtype=torch.float16), "b": torch.tensor([3])}, tmp_path / "a")
    tensors = read_tensors(tmp_path / "a")
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    assert {name: value.tolist() for name, value in tensors.items()} == {"a": [1.5, -2.0], "b": [3.0]}
    with pytest.raises(CheckpointError, match=r"cannot read .*none"):
        read_tensors(tmp_path / "none")


@pytest.mark.parametrize("content", [None, [], {}, {1: torch.zeros(1)}, {"w": [1.0]}])
def test_anything_but_tensors_by_name_is_refused(content):
    with pytest.raises(CheckpointError, match=r"holds no weights|must be a tensor"):
        plain_tensors("file", content)


def test_weights_that_do_not_fit_are_refused():
    module = torch.nn.Linear(2, 3)

    def make():
        return torch.nn.Linear(2, 3)

    good = {"weight": torch.ones(3, 2), "bias": torch.ones(3)}
    for change, message in (
        ({"bias": torch.tensor([1.0, float("inf"), 1.0])}, "file: bias contains NaN or infinite"),
        ({"bias": torch.ones(2)}, r"file: bias must have the shape \(3,\); got \(2,\)"),
        ({"gain": torch.ones(1)}, "file has 1 unexpected weights: gain"),
    ):
        with pytest.raises(CheckpointError, match=message):
            with_weights(make, {**good, **change}, "file")
    with pytest.raises(CheckpointError, match="file has 1 missing weights: bias"):
        checked("file", {"weight": good["weight"]}, module.state_dict())
    module = with_weights(make, good, "file")
    assert torch.equal(module.weight, good["weight"])
