"""`nas status`."""

import json

from tests.nas.commands.helpers import nas


def test_a_finished_run_is_one_line(run):
    folder, summary = run
    shown = nas("status", folder)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("\n") == 1
    assert "finished, 8 of 8 evaluations" in shown.stdout
    record = json.loads(nas("status", folder, "--json").stdout)
    assert (record["state"], record["best_score"]) == ("finished", summary["best"]["score"])


def test_searches_of_a_sweep_that_have_not_started_are_listed(tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": {"a": {}, "b": {}}}))
    shown = nas("status", tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("not begun, 0 of ? evaluations") == 2
