"""Values in Ray's object store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nas.executors.ray import RayExecutor
from nas.testing.worlds import tiny_space
from search_spaces import NasError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


SPACE = tiny_space()


SUBNETS = list(SPACE)[:40]


SMALL = {"cpus": 0.1}


class Mapped:
    """Tells whether its tensor, its parameter and its array lie in the object store, and what is of its own."""

    higher_is_better, name = True, "mapped"

    def __init__(self) -> None:
        self.tensor = torch.arange(2_000_000, dtype=torch.float32)
        self.module = torch.nn.Linear(1000, 1000)
        self.array = np.arange(1_000_000.0)

    def __call__(self, subnets):
        stores = [
            [int(end, 16) for end in line.split()[0].split("-")]
            for line in Path("/proc/self/maps").read_text().splitlines()
            if "plasma" in line
        ]
        at = (self.tensor.data_ptr(), self.module.weight.data_ptr(), self.array.ctypes.data)
        inside = [any(low <= address < high for low, high in stores) for address in at]
        right = float(self.tensor[-1]) == 1_999_999 and not self.array.flags.writeable
        return [float(all(inside) and right)] * len(subnets)


def outcomes(executor, subnets=SUBNETS):
    return [outcome for chunk in executor.run(subnets) for outcome in chunk]


def test_arrays_and_tensors_are_mapped_not_copied(cluster):
    with RayExecutor(Mapped(), actors=1, **SMALL) as executor:
        assert [outcome.score for outcome in outcomes(executor, SUBNETS[:1])] == [1.0]


def test_a_full_object_store_is_one_line(cluster):
    class Big(Mapped):
        def __init__(self) -> None:
            self.arrays = [np.ones(2**27 // 8) for _ in range(2)]

        def __call__(self, subnets):
            return [1.0] * len(subnets)

    with pytest.raises(NasError, match=r"\(268 MB\) does not fit Ray's object store"), RayExecutor(Big(), **SMALL):
        pytest.fail("began")
