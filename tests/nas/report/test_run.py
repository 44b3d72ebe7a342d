from __future__ import annotations

import json

import pytest

import nas
from evaluators.scores import synthetic
from nas.report.run import checked, differences, read_report, read_reports
from nas.runs.folder import read_run
from nas.runs.ledger import Evaluation
from nas.testing.worlds import params_of, tiny_space
from search_spaces import NasError, RunError
from search_spaces.budget import Budget
from tests.nas.report.helpers import SPACE, searched, width


def test_budgets_of_a_run_are_values(tmp_path):
    run = read_report(searched(tmp_path, costs=("params", "macs"), budgets=("params<=400K", "macs<=0.5M")))
    assert run.budgets == (Budget("params", 400_000), Budget("macs", 500_000))
    assert run.budgets_on("macs") == [Budget("macs", 500_000)]
    assert run.budgets_on("macs@torch") == []
    assert run.share_used(run.budgets[0]) == params_of(SPACE).of(run.best.subnet) / 400_000


def test_without_a_best_subnet_no_share_is_used(tmp_path):
    run = read_report(searched(tmp_path, evals=0))
    assert run.best is None
    assert run.share_used(run.budgets[0]) is None


def test_the_largest_subnet_is_the_runs_own_or_the_callers(tmp_path):
    whole = read_report(searched(tmp_path / "whole", budgets=()))
    assert whole.largest.subnet == SPACE.largest
    assert whole.largest in whole.evaluations
    folders = [searched(tmp_path / "small"), tmp_path / "whole"]
    assert [run.largest for run in read_reports(folders)] == [None, whole.largest]
    largest = Evaluation(-1, SPACE.largest, {"params": 1}, 2.0)
    assert [run.largest for run in read_reports(folders, largest)] == [largest, whole.largest]
    with pytest.raises(NasError, match="at least one run folder"):
        read_reports([])


def test_convergence_is_every_improvement(tmp_path):
    run = read_report(searched(tmp_path))
    scores = [evaluation.score for evaluation in run.evaluations]
    improved = [i for i, score in enumerate(scores) if score > max(scores[:i], default=-1.0)]
    assert run.convergence == [(i + 1, scores[i]) for i in improved]


def test_errors_and_counts_are_of_the_ledger(tmp_path):
    def score(subnets):
        return [float("nan") if subnet.heads[0] == 2 else 1.0 for subnet in subnets]

    run = read_report(searched(tmp_path, score=score))
    failed = sum(evaluation.subnet.heads[0] == 2 for evaluation in run.evaluations)
    assert run.counts == {"proposed": 30, "ok": 30 - failed, "failed": failed, "over_budget": 0, "ruled_out": 0}
    assert run.errors == ["score is NaN"]


def test_the_settings_are_all_of_run_json(tmp_path):
    folder = searched(tmp_path, added={"mine": 1}, settings={"command": "nas search --seed 1", "macs_seconds": 2.0})
    run = read_report(folder)
    assert run.settings == json.loads((tmp_path / "run.json").read_text()) == read_run(folder)[0]
    assert (run.command, run.macs_seconds) == ("nas search --seed 1", 2.0)
    assert (run.space, run.space_name) == (SPACE, SPACE.name)


def test_a_run_that_is_in_progress_can_be_read(tmp_path):
    seen = []
    nas.search(
        SPACE, width, {"params": params_of(SPACE)}, evals=32, out=tmp_path,
        callbacks=[lambda evaluations: seen.append((len(evaluations), read_report(tmp_path)))],
    )  # fmt: skip
    assert [run.counts["proposed"] for _, run in seen] == [number for number, _ in seen]
    assert all(run.trust is None for _, run in seen)


def test_a_budget_that_is_none_is_one_line(tmp_path):
    with pytest.raises(NasError, match="unknown cost 'joules' in budget 'joules<=1'"):
        read_report(searched(tmp_path, added={"budgets": ["joules<=1"]}))


def test_errors_in_what_the_search_added_name_the_file():
    with (
        pytest.raises(RunError, match=r"a/run\.json are not as the search writes them: KeyError\('effect'\)"),
        checked("a"),
    ):
        {}["effect"]
    with pytest.raises(NasError, match=r"^mine$"), checked("a"):
        raise NasError("mine")


def test_runs_of_different_supernets_or_spaces_cannot_be_compared(tmp_path):
    space = tiny_space()
    score = synthetic(space, seed=1)
    for name in "abc":
        identity = {"supernet": "1" if name == "c" else "0", "audio": "2"}
        nas.search(space, score, {}, (), "random", 4, out=tmp_path / name, settings={"identity": identity})
    a, b, c = (read_report(tmp_path / name) for name in "abc")
    assert differences([a, b]) == []
    assert differences([a, c]) == ["supernet"]
