import numpy as np
import pytest
import torch

from evaluators.costs import macs, params
from evaluators.costs.counters import closed_macs, counters
from search_spaces import NasError, Subnet, get_space
from supernet.layers import Hubert

PUBLISHED_PARAMS = {"lighthubert-base": (41_243_392, 94_371_584), "lighthubert-small": (11_442_944, 44_392_192)}


@pytest.mark.parametrize(("name", "least_and_most"), PUBLISHED_PARAMS.items())
def test_params_are_as_lighthubert_counts_them(name, least_and_most):
    space = get_space(name)
    cost = params(space)
    assert cost.table.range() == least_and_most
    assert (cost.of(space.smallest), cost.of(space.largest)) == least_and_most


def test_params_of_the_released_small_subnet():
    assert params(get_space("lighthubert-small")).of(Subnet(384, (6,) * 12, (4.0,) * 12)) == 26_873_600


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


def test_too_little_audio_is_refused():
    with pytest.raises(NasError, match=r"at least 0.025 s is needed"):
        macs(get_space("hubert-tiny"), 0.01)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0, "1", None, True])
def test_seconds_that_are_no_length_are_refused(seconds):
    with pytest.raises(NasError, match="seconds must be a positive, finite number; got"):
        macs(get_space("hubert-tiny"), seconds)


@pytest.mark.parametrize("cost", [macs, params])
@pytest.mark.parametrize("what", [3, None, "hubert-tiny", get_space])
def test_what_has_no_space_is_refused(cost, what):
    with pytest.raises(NasError, match=rf"^{cost.__name__} takes a Space or a supernet; got "):
        cost(what)


def test_other_counters_miss_what_they_say():
    space = get_space("hubert-tiny")
    rows = {row.counter: row for row in counters(Hubert(space.network, space.smallest).eval(), 0.5)}
    own = macs(space, 0.5).of(space.smallest)
    assert rows["torch FlopCounterMode"].macs == own
    assert rows["fvcore"].macs == pytest.approx(own, rel=0.1)
    assert rows["fvcore"].macs != own
    assert "scaled_dot_product_attention" in rows["fvcore"].unseen
    assert rows["thop"].macs == pytest.approx(own, rel=0.1)
    assert rows["thop"].macs != own
    assert rows["fvcore"].params == rows["torch FlopCounterMode"].params
