"""A search that is killed before a file operation loses nothing, does nothing twice, and leaves nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEARCH = ("search", "--budget", "params<=2.5M", "--evals", "4", "--batch", "2")


def run(folder, at, *command):
    """The exit status of `nas command`, killed before operation number `at` below `folder`; 0: not killed."""
    command = [sys.executable, "-m", "tests.faults.kill", str(folder), str(at), "nas", *command]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder.parent, env=env, capture_output=True, check=False).returncode


def results(folder):
    """What a search wrote, without times: ledger, best and front; and the names of its files."""
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    ledger = [{key: line[key] for key in ("index", "id", "subnet", "costs", "score", "status")} for line in lines]
    best, front = (json.loads((folder / name).read_text()) for name in ("best.json", "front.json"))
    return ledger, best, front, sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(results, number of file operations) of a search that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(folder, 0, *SEARCH, "--out", str(folder)) == 0
    return results(folder), int(folder.with_name("run.count").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.8, 1.0])
def test_a_killed_search_is_continued_to_the_same_result(whole, share, tmp_path):
    expected, operations = whole
    folder = tmp_path / "run"
    assert run(folder, max(1, round(share * operations)), *SEARCH, "--out", str(folder)) == -9
    started = (folder / "run.json").exists()  # before that there is nothing to resume: the same command again
    again = ("search", "--resume", str(folder)) if started else (*SEARCH, "--out", str(folder))
    assert run(folder, 0, *again) == 0
    assert results(folder) == expected
