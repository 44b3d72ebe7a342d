import pytest

from evaluators.costs import COSTS, CostContext, get_cost, macs, memory_bytes, params
from search_spaces import NasError, Subnet, get_space
from search_spaces.budget import KNOWN_COSTS

PUBLISHED_PARAMS = {"lighthubert-base": (41_243_392, 94_371_584), "lighthubert-small": (11_442_944, 44_392_192)}


@pytest.mark.parametrize(("name", "least_and_most"), PUBLISHED_PARAMS.items())
def test_params_are_as_lighthubert_counts_them(name, least_and_most):
    space = get_space(name)
    cost = params(space)
    assert cost.table.range() == least_and_most
    assert (cost.of(space.smallest), cost.of(space.largest)) == least_and_most


def test_params_of_the_released_small_subnet():
    assert params(get_space("lighthubert-small")).of(Subnet(384, (6,) * 12, (4.0,) * 12)) == 26_873_600


def test_too_little_audio_is_refused():
    with pytest.raises(NasError, match=r"at least 0.025 s is needed"):
        macs(get_space("hubert-tiny"), 0.01)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0, "1", None, True])
def test_seconds_that_are_no_length_are_refused(seconds):
    with pytest.raises(NasError, match="seconds must be a positive, finite number; got"):
        macs(get_space("hubert-tiny"), seconds)


@pytest.mark.parametrize("cost", [macs, params])
@pytest.mark.parametrize("what", [3, None, get_space])
def test_what_has_no_space_is_refused(cost, what):
    with pytest.raises(NasError, match=r"^space must be a Space, its name, .* or a supernet; got "):
        cost(what)


def test_memory_is_four_bytes_for_each_exported_parameter():
    space = get_space("hubert-tiny")
    for subnet in (space.smallest, space.middle, space.largest):
        assert memory_bytes(space).of(subnet) == 4 * params(space, "exported").of(subnet)
    assert memory_bytes(space).unit == "bytes"


def test_costs_are_looked_up_by_what_budgets_name():
    context = CostContext(get_space("hubert-tiny"), seconds=2.0)
    largest = context.space.largest
    assert get_cost("params", context).of(largest) == params(context.space).of(largest)
    assert get_cost("macs", context).of(largest) == macs(context.space, 2.0).of(largest)
    assert get_cost("memory_bytes", context).of(largest) == memory_bytes(context.space).of(largest)
    with pytest.raises(NasError, match="unknown cost 'weight'; known: params, macs, memory_bytes, latency_ms"):
        get_cost("weight", context)
    with pytest.raises(NasError, match="takes no argument"):
        get_cost("params@cpu", context)
    assert tuple(COSTS) == KNOWN_COSTS
