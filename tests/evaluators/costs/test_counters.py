"""MACs against closed counters, and what other counters miss."""

import numpy as np
import pytest
import torch

from evaluators.costs import macs, params
from evaluators.costs.counters import closed_macs, counters
from search_spaces import get_space
from supernet.layers import Hubert
from tests.spaces import COARSE


@pytest.mark.parametrize("name", ["lighthubert-base", "lighthubert-small", "hubert-tiny"])
def test_exported_params_and_macs_equal_a_closed_counter_on_the_module(name):
    space = get_space(name)
    rng = np.random.default_rng(0)
    for subnet in (space.smallest, space.largest, space.sample(rng), space.sample(rng)):
        with torch.device("meta"):
            net = Hubert(space.network, subnet)
        assert params(space, convention="exported").of(subnet) == sum(p.numel() for p in net.parameters())
        seconds = float(rng.uniform(0.1, 3))
        with torch.device("meta"):
            assert macs(space, seconds).of(subnet) == closed_macs(net, seconds)


def test_other_counters_miss_what_they_say():
    space = COARSE
    rows = {row.counter: row for row in counters(Hubert(space.network, space.smallest).eval(), 0.5)}
    own = macs(space, 0.5).of(space.smallest)
    assert rows["torch FlopCounterMode"].macs == own
    assert rows["fvcore"].macs == pytest.approx(own, rel=0.1)
    assert rows["fvcore"].macs != own
    assert "scaled_dot_product_attention" in rows["fvcore"].unseen
    assert rows["thop"].macs == pytest.approx(own, rel=0.1)
    assert rows["thop"].macs != own
    assert rows["fvcore"].params == rows["torch FlopCounterMode"].params
