"""Calibrations as files and as costs; what is measured is made up, except for the last test."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evaluators.costs.latency.calibration import (
    LatencyCalibration,
    calibrate_latency,
    design,
    latency_calibration_file,
)
from evaluators.costs.latency.target import Target
from search_spaces import NasError, get_space
from tests.evaluators.helpers import SPACE, calibration


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
        "is of space 'coarse'": (made, get_space("lighthubert-small"), Target()),
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
    assert name.startswith("coarse-")
    assert "cores" in name
    assert "torch-" in name
    assert latency_calibration_file(SPACE, Target(threads=2)).name != name


def test_the_design_is_of_different_subnets_and_has_the_ends():
    chosen = design(SPACE, 40, np.random.default_rng(0))
    assert len(set(chosen)) == 40
    assert {SPACE.smallest, SPACE.largest} <= set(chosen)
    assert all(SPACE.contains(subnet) for subnet in chosen)
    with pytest.raises(NasError, match="12 to 200 measurements; got 500"):
        calibrate_latency(None, Target(), 500)
