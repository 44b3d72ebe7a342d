"""Calibrations as files and as costs; what is measured is made up, except for the last test."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evaluators.costs import latency_ms
from evaluators.costs.latency.calibration import (
    LatencyCalibration,
    LatencyCost,
    calibrate_latency,
    design,
    latency_calibration_file,
    require_possible,
)
from evaluators.costs.latency.target import Target
from search_spaces import Feasible, InfeasibleError, NasError, get_space
from supernet import load_supernet
from tests.evaluators.helpers import SPACE, calibration, made_up_ms


def test_a_calibration_is_read_back_as_it_was(tmp_path):
    made = calibration()
    again = LatencyCalibration.load(made.save(tmp_path / "c.json"))
    assert again.model.table().constant.tolist() == made.model.table().constant.tolist()
    again.check(SPACE, Target())
    assert again.summary()["measurements"] == 100
    assert not list(tmp_path.glob(".*"))


def test_a_calibration_of_something_else_is_refused_in_one_line(tmp_path):
    made = calibration()
    cases = {
        "is of space 'hubert-tiny'": (made, get_space("lighthubert-small"), Target()),
        "is of target 'torch,threads=1": (made, SPACE, Target(threads=2)),
        "of another machine .*cpu Z80": (replace(made, machine={**made.machine, "cpu": "Z80"}), SPACE, Target()),
        "of another software .*torch 0.1": (replace(made, versions={"torch": "0.1"}), SPACE, Target()),
    }
    for says, (given, space, target) in cases.items():
        with pytest.raises(NasError, match=says) as caught:
            given.check(space, target)
        assert "\n" not in str(caught.value)
    (tmp_path / "x.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(NasError, match=r"x\.json is not a latency calibration"):
        LatencyCalibration.load(tmp_path / "x.json")
    with pytest.raises(NasError, match="cannot read calibration"):
        LatencyCalibration.load(tmp_path / "y.json")


def test_files_are_named_after_machine_and_versions(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = latency_calibration_file(SPACE, Target()).name
    assert name.startswith("hubert-tiny-")
    assert "cores" in name
    assert "torch-" in name
    assert latency_calibration_file(SPACE, Target(threads=2)).name != name


def test_the_table_is_the_bound_and_budgets_on_it_are_solved_exactly():
    cost = LatencyCost(calibration())
    low, high = cost.table.range()
    fits = Feasible(SPACE, [(cost.table, (low + high) / 2)])
    draws = fits.sample(np.random.default_rng(0), 200)
    assert max(cost.of(s) for s in draws) <= (low + high) / 2
    assert np.mean([made_up_ms(s) > (low + high) / 2 for s in draws]) <= 0.01
    assert cost.mean.of(draws[0]) < cost.of(draws[0])
    assert not hasattr(cost, "verify")


def test_the_design_is_of_different_subnets_and_has_the_ends():
    chosen = design(SPACE, 40, np.random.default_rng(0))
    assert len(set(chosen)) == 40
    assert {SPACE.smallest, SPACE.largest} <= set(chosen)
    assert all(SPACE.contains(subnet) for subnet in chosen)
    with pytest.raises(NasError, match="12 to 200 measurements; got 500"):
        calibrate_latency(None, Target(), 500)


@pytest.mark.slow
def test_a_real_machine_is_calibrated_once_and_its_subnets_verified(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = load_supernet("hubert-tiny")
    target = Target(seconds=0.1)
    with pytest.raises(InfeasibleError, match="the fastest takes about"):
        require_possible(model, target, 0.001)
    made = calibrate_latency(model, target, 20)
    made.save(latency_calibration_file(model.space, target))
    cost = latency_ms(model, "torch,seconds=0.1")
    assert cost.calibration.made == made.made
    found = cost.verify(model.space.smallest, 1e6)
    assert found["keeps"]
    assert found["measured_ms"] < found["measured_at_most_ms"] < 1e6
    assert not cost.verify(model.space.smallest, 1e-3)["keeps"]
