"""`nas sweep`: its options are those of `nas search`."""

import json
from dataclasses import fields

import pytest
import typer

from nas.commands import search, sweep
from nas.commands.options import Given
from nas.commands.sweep import _GridSettings, _jobs
from nas.settings import SearchSettings
from search_spaces import RunError
from tests.nas.commands.helpers import nas


def options(module, name):
    (command,) = [typer.main.get_command(module.app)]
    return {option for parameter in command.params for option in parameter.opts}


def test_a_sweep_has_every_option_of_a_search_but_those_of_evaluators():
    of_search = options(search, "search") - {"--ray", "--actors", "--cpus-per-actor", "--gpus-per-actor"}
    of_search -= {"--target-resource", "--wait", "--async", "--evaluator-timeout"}
    of_search -= {"--log-to"}  # Ray Tune keeps the curves of its trials
    assert of_search <= options(sweep, "sweep")


def test_jobs_are_the_settings_with_some_replaced(tmp_path):
    grid = _GridSettings(budget=("params<=2M", "params<=3M and macs<=1G"), searcher=("random",), seed=(0, 1))
    base = SearchSettings(score="probe:speaker", precision="bf16", successive=False, evals=7)
    jobs = _jobs(str(tmp_path), False, grid, base, Given())
    assert len(jobs) == 4
    for job in jobs.values():
        settings = SearchSettings.from_dict(job)
        assert (settings.score, settings.precision, settings.evals) == ("probe:speaker", "bf16", 7)
        assert settings.searcher == "random"
    assert {tuple(job["budgets"]) for job in jobs.values()} == {
        ("params<=2000000",),
        ("params<=3000000", "macs<=1000000000"),
    }
    assert json.loads((tmp_path / "sweep.json").read_text())["jobs"] == jobs
    assert _jobs(str(tmp_path), True, grid, base, Given()) == jobs
    with pytest.raises(RunError, match="is resumed with its own settings: leave evals out"):
        _jobs(str(tmp_path), True, grid, base, Given({"evals"}))
    with pytest.raises(RunError, match="holds a sweep"):
        _jobs(str(tmp_path), False, grid, base, Given())


def test_sweeps_written_before_are_read(tmp_path):
    old = {"supernet": "hubert-tiny", "objectives": ["score"], "evals": 4, "space": None, "batch": 16, "seed": 0}
    old |= {"asynchronous": False, "macs_seconds": 1.0, "device": "cpu", "audio": None, "teacher": None}
    settings = SearchSettings.from_dict({**old, "budgets": ["params<=2M"], "searcher": "exact"})
    assert settings.score == "distillation"
    assert {field.name for field in fields(SearchSettings)} >= set(old)


def test_a_target_needs_a_budget():
    done = nas("sweep", "--target", "torch", "--out", "x")
    assert done.returncode == 2
    assert "--target has no effect without --budget" in done.stderr
