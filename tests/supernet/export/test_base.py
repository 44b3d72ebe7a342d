"""What every format has in common."""

import pytest
import torch

from search_spaces import CheckFailed, NasError
from supernet.export.base import ModelExporter, largest_difference, require


def runner(model, subnet, change=0.0):
    net = model.extract(subnet)

    def run(wav, lengths=None):
        with torch.no_grad():
            return [state + change for state in net(wav, lengths).hidden_states]

    return run


def test_the_slice_differs_from_itself_by_rounding_alone(supernet, small_space):
    assert largest_difference(supernet, small_space.middle, runner(supernet, small_space.middle)) < 1e-5


@pytest.mark.parametrize("change", [1.0, float("nan")])
def test_other_numbers_are_a_difference_and_nan_is_one(supernet, small_space, change):
    assert largest_difference(supernet, small_space.middle, runner(supernet, small_space.middle, change)) > 1e-3


def test_a_check_that_fails_says_by_how_much(supernet, small_space, tmp_path):
    class Wrong(ModelExporter):
        def write(self, model, subnet, folder, about, dtype): ...

        def read(self, folder, dtype):
            return runner(supernet, small_space.middle, 1.0)

    with pytest.raises(CheckFailed, match=r"differs from the supernet's slice by .* allowed: 1e-05"):
        Wrong().check(supernet, small_space.middle, tmp_path, "fp32")


def test_missing_modules_name_their_extra():
    require("onnx", "onnx", "json")
    with pytest.raises(NasError, match=r"format 'x' needs not_there: pip install 'lighthubert-nas\[extra\]'"):
        require("x", "extra", "not_there")
