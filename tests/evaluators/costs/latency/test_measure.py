"""The arithmetic of measuring on made-up clocks, and one real measurement of each backend."""

import numpy as np
import pytest

from evaluators.costs.latency.measure import Timings, measure, polish, rounds_of
from evaluators.costs.latency.target import Target
from search_spaces import Subnet
from supernet import load_supernet
from tests.evaluators.helpers import timings


def test_polish_finds_the_levels_of_a_table_with_gaps():
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=60), rng.normal(size=9)
    table = rows[:, None] + columns
    table[rng.random(table.shape) < 0.4] = np.nan
    table[:, 0] = rows + columns[0]
    found_rows, found = polish(table)
    assert found - found[0] == pytest.approx(columns - columns[0], abs=1e-4)
    assert found_rows + found[0] == pytest.approx(rows + columns[0], abs=1e-4)


def test_slow_spells_and_outliers_leave_the_ratios_alone():
    """A machine that slows by a third midway, with a tenfold sample in every twenty."""
    rng = np.random.default_rng(1)
    true = np.array([10.0, 12.0, 8.0, 10.2])
    clock = {"calls": 0}

    def runner(ms):
        def once():
            clock["calls"] += 1
            spell = 1.33 if clock["calls"] > 160 else 1.0
            return ms * spell * np.exp(0.005 * rng.normal()) * (10 if rng.random() < 0.05 else 1)

        return once

    rows = np.array(list(rounds_of([runner(ms) for ms in true], range(4), 80, 4, rng)))
    _, level = polish(np.log(rows))
    assert np.exp(level - level[0]) == pytest.approx(true / 10, rel=0.005)


def test_what_runs_twice_a_round_counts_with_its_mean():
    calls = iter([2.0, 8.0])
    (row,) = rounds_of([lambda: next(calls)] * 2, [0, 0], 1, 2, np.random.default_rng(0))
    assert row[0] == pytest.approx(4.0)
    assert np.isnan(row[1])


def test_timings_are_read_back_and_say_when_a_machine_is_noisy():
    quiet = timings(20)
    again = Timings.from_dict(quiet.to_dict())
    assert again.subnets == quiet.subnets
    assert again.ms.tolist() == quiet.ms.tolist()
    assert not quiet.warnings()
    noisy = Timings.from_dict({**timings(20, noise=0.05).to_dict(), "drift": 0.3, "slower": 0.2, "outliers": 0.2})
    said = " ".join(noisy.warnings())
    for words in ("too noisy to distinguish subnets", "moved by 30%", "20% slower now", "outliers"):
        assert words in said


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_exported_subnets_are_measured(backend):
    model = load_supernet("hubert-tiny")
    space = model.space
    done = []
    found = measure(
        model, [space.smallest, space.largest, space.middle], Target(backend, seconds=0.5), seconds=1, passes=2,
        on_progress=lambda *at: done.append(at),
    )  # fmt: skip
    assert found.ms[0] < found.ms[1]
    assert found.ms[2] == found.reference_ms
    assert found.error[2] == 0
    assert done[-1] == (4, 4)
    assert isinstance(found.reference, Subnet)


def test_the_error_that_is_stated_holds():
    """One subnet against a reference, five passes that each have an offset of their own: as a search verifies."""
    from evaluators.costs.latency import measure as latency_measure

    rng = np.random.default_rng(2)
    middle, other = timings(20).reference, timings(20).subnets[0]
    kept = 0
    for _ in range(200):
        offsets = 0.01 * rng.normal(size=(5, 2)).repeat(15, axis=0)
        rows = np.exp(offsets + 0.01 * rng.normal(size=(75, 2))) * [10.0, 12.0]
        found = latency_measure._timings(rows, np.arange(75) // 15, [middle, other], (other,), Target(), 10.0)
        kept += abs(found.ms[0] / 12 - 1) <= found.error[0]
    assert kept >= 185  # 95 % of 200, less two standard deviations


def test_a_subnet_whose_passes_are_at_odds_is_measured_once_more():
    from evaluators.costs.latency import measure as latency_measure

    rng = np.random.default_rng(3)
    of_pass = np.arange(45) // 15
    rows = np.exp(0.003 * rng.normal(size=(45, 12))) * np.linspace(8, 12, 12)
    assert not len(latency_measure._at_odds(rows, of_pass))
    rows[15:30, 5] *= 1.2  # something else ran in its second pass
    assert latency_measure._at_odds(rows, of_pass).tolist() == [5]
