from __future__ import annotations

from types import SimpleNamespace

import pytest

from nas.report.formatting import (
    budget_text,
    budgets_text,
    cost_title,
    duration,
    interval_text,
    run_names,
    sentence,
    short,
)
from search_spaces.budget import Budget


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (2_478_144, 3, "2.48M"),
        (2_478_144, 4, "2.478M"),
        (999_999, 3, "1M"),
        (27_250_000, 6, "27.25M"),
        (951_892_141_473, 3, "952G"),
        (971_944, 3, "972k"),
        (20.54321, 3, "20.54"),
        (0, 3, "0"),
        (-1.25, 3, "-1.25"),
        (None, 3, "unknown"),
    ],
)
def test_numbers_are_short(value, digits, text):
    assert short(value, digits) == text


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ("params<=2500000", "params ≤ 2.5M"),
        ("latency_ms<=20@onnxruntime,threads=1", "latency_ms ≤ 20 on onnxruntime, threads=1"),
        ("memory_bytes<=64MiB", "memory_bytes ≤ 67.1089M"),
    ],
)
def test_budgets_are_written_as_people_write_them(budget, text):
    assert budget_text(Budget.parse(budget)) == text


def test_several_budgets_are_one_phrase():
    assert budgets_text([Budget("params", 1000), Budget("macs", 2e9)]) == "params ≤ 1k and macs ≤ 2G"
    assert budgets_text([]) == ""


def test_titles_of_costs_name_unit_target_and_length_of_audio():
    assert cost_title("params", None) == "Parameters"
    assert cost_title("macs", 2.0) == "MACs for 2 s of audio"
    assert cost_title("macs", None) == "MACs"
    assert cost_title("latency_ms@torch,threads=1", 2.0) == "Latency (ms) on torch, threads=1"
    assert cost_title("joules", None) == "Joules"
    assert cost_title("memory_bytes", None, start=False) == "memory (bytes)"
    assert (sentence("best at 2.5M"), sentence("")) == ("Best at 2.5M", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "under 1 s"), (12.34, "12.3 s"), (200.4, "3 min 20 s"), (3_600, "1 h 0 min"), (3_959, "1 h 5 min")],
)
def test_durations_have_the_units_that_matter(seconds, text):
    assert duration(seconds) == text


def test_a_figure_stands_with_its_interval():
    assert interval_text({"value": 0.1, "low": 0.05, "high": 0.2004}) == "0.100 (0.050 – 0.200)"


def test_runs_of_the_same_searcher_and_seed_are_told_apart():
    runs = [SimpleNamespace(searcher="random", seed=0, folder=f"runs/{name}") for name in "ab"]
    assert run_names(runs) == ["random, seed 0 (a)", "random, seed 0 (b)"]
    assert run_names(runs[:1]) == ["random, seed 0"]
