import sys

import pytest
import torch

from search_spaces import NasError
from supernet.export import export_subnet
from supernet.export.base import largest_difference, require


def test_a_weight_that_is_nan_is_a_difference(model, small_space):
    net = model.extract(small_space.middle)

    def run(wav, lengths):
        return net(wav, lengths).hidden_states

    assert largest_difference(model, small_space.middle, run) < 1e-5
    with torch.no_grad():
        net.encoder.layers[-1].fc2.bias[0] = float("nan")
    assert largest_difference(model, small_space.middle, run) == float("inf")


def test_the_difference_is_relative_and_starts_at_the_first_state(model, small_space):
    net = model.extract(small_space.middle)

    def run(wav, lengths):
        first, *states = net(wav, lengths).hidden_states
        return [first + first.abs().max(), *(1.25 * state for state in states)]

    with torch.no_grad():
        assert largest_difference(model, small_space.middle, run) == pytest.approx(1.0)
        assert largest_difference(model, small_space.middle, run, first=1) == pytest.approx(0.25)


def test_a_missing_extra_is_named(model, small_space, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(NasError) as error:
        export_subnet(model, small_space.middle, tmp_path / "out", ["json", "onnx"], {})
    assert str(error.value) == "format 'onnx' needs onnxscript: pip install 'lighthubert-nas[onnx]'"
    assert not list(tmp_path.iterdir())


def test_modules_that_are_installed_are_no_error():
    require("json", "onnx", "json", "math")
