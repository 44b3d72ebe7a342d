from __future__ import annotations

import pytest

from search_spaces import Budget, NasError


@pytest.mark.parametrize(
    ("text", "cost", "limit"),
    [
        ("params<=27M", "params", 27_000_000),
        ("params <= 26.8736 M", "params", 26_873_600),
        ("params<=13100K", "params", 13_100_000),
        ("params≤5", "params", 5),
        ("params<=27_000_000", "params", 27_000_000),
        ("macs<=1.2G", "macs", 1_200_000_000),
        ("macs<=1e3T", "macs", 10**15),
        ("latency_ms<=20", "latency_ms", 20),
        ("latency_ms<=20ms", "latency_ms", 20),
        ("latency_ms<=0.02s", "latency_ms", 20),
        ("latency_ms<=0.5ms", "latency_ms", 0.5),
        ("latency_ms<=250us", "latency_ms", 0.25),
        ("memory_bytes<=64MiB", "memory_bytes", 64 * 2**20),
    ],
)
def test_parse_reads_cost_number_and_unit(text, cost, limit):
    budget = Budget.parse(text)
    assert budget == Budget(cost, limit)
    assert type(budget.limit) is type(limit)


@pytest.mark.parametrize("text", ["params<=27M", "macs<=1.5", "latency_ms<=0.3s", "latency_ms<=3@torch,threads=2"])
def test_a_written_budget_reads_as_itself(text):
    assert Budget.parse(str(Budget.parse(text))) == Budget.parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("params<27M", "written with <="),
        ("params=27M", "written with <="),
        ("params>=27M", "upper limit"),
        ("speed<=3", "known here: params, macs"),
        ("params<=27X", "unknown unit 'X'.*K, M, G, T"),
        ("params<=27ms", "unknown unit 'ms'"),
        ("latency_ms<=20M", "unknown unit 'M'.*us, ms, s"),
        ("params<=many", "must be a number"),
        ("params<=", "must be a number"),
        ("params<=-3", "must be a number"),
        ("params<=nan", "must be a number"),
        ("params<=1e999999999", "must be below"),
        ("params<=20@jetson", "only a latency has a target"),
        ("latency_ms<=20@", "only a latency has a target"),
        ("27M", "is written like"),
        ("", "is written like"),
    ],
)
def test_parse_refuses_in_one_line_that_says_what_to_write(text, says):
    with pytest.raises(NasError, match=says) as caught:
        Budget.parse(text)
    assert "\n" not in str(caught.value)


def test_a_target_is_part_of_the_name_of_the_cost():
    budget = Budget.parse("latency_ms <= 0.02s @ onnxruntime, threads=1", known=["latency_ms@onnxruntime,threads=1"])
    assert budget == Budget("latency_ms@onnxruntime,threads=1", 20)
    assert str(budget) == "latency_ms<=20@onnxruntime,threads=1"


def test_known_costs_are_those_of_the_search():
    assert Budget.parse("energy<=2K", known=["energy"]).limit == 2000
    with pytest.raises(NasError, match="known here: energy"):
        Budget.parse("params<=2K", known=["energy"])


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), "27M", True, None])
def test_a_limit_is_a_finite_number(limit):
    with pytest.raises(NasError, match="must be a number"):
        Budget("params", limit)


def test_any_cost_is_known_if_none_are_named():
    assert Budget.parse("anything<=3", known=None) == Budget("anything", 3)


def test_a_cost_at_its_limit_keeps_the_budget():
    budget = Budget.parse("params<=27M")
    assert budget.keeps(27_000_000)
    assert not budget.keeps(27_000_001)


def test_a_share_is_of_the_largest_subnet():
    budget = Budget.parse("params <= 71 %")
    assert (budget.percent, str(budget), budget.limit) == (True, "params<=71%", 71)
    assert budget.of_largest(1_001) == Budget("params", 710)
    assert Budget.parse("latency_ms<=50%@torch").of_largest(31.0) == Budget("latency_ms@torch", 15.5)
    assert Budget.parse("params<=2M").of_largest(7) == Budget("params", 2_000_000)
    for text in ("params<=0%", "params<=101%", "params<=%", "params<=5M%"):
        with pytest.raises(NasError):
            Budget.parse(text)
