from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import nas
from evaluators.scores import synthetic
from nas.report.summary import report_run
from nas.runs.folder import RunFolder, read_settings
from nas.runs.ledger import read_ledger
from nas.testing.worlds import content, params_of, tiny_space
from search_spaces import RunError

ROOT = Path(nas.__file__).parents[1]
SPACE = tiny_space()

SLOW_SEARCH = """
import sys, time
import nas
from evaluators.scores import synthetic
from nas.testing.worlds import params_of, tiny_space

space = tiny_space()
score = synthetic(space, seed=1)

class Slow:
    name, settings = score.name, score.settings
    def __call__(self, subnets):
        time.sleep(0.02)
        return score(subnets)

def started(evaluations):
    print(len(evaluations), flush=True)

out, resume = sys.argv[1], "--resume" in sys.argv
try:
    nas.search(space, Slow(), {"params": params_of(space)}, ["params<=500K"], "evolution", 120, batch=2, seed=3,
               out=out, resume=resume, callbacks=[started])
except nas.runs.folder.RunError as error:
    sys.exit(f"RunError: {error}")
"""


def slow_search(folder, *options, **process):
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_SEARCH, str(folder), *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **process,
    )  # fmt: skip


def undisturbed():
    return nas.search(
        SPACE, synthetic(SPACE, seed=1), {"params": params_of(SPACE)}, ["params<=500K"], "evolution", 120, 3, batch=2
    ).evaluations


def test_killed_and_resumed_equals_undisturbed(tmp_path):
    chance = random.Random(0)
    for kills in range(4):
        with slow_search(tmp_path, *(["--resume"] if kills else [])) as process:
            assert process.stdout.readline(), process.stderr.read()  # the first chunk is in the ledger
            time.sleep(chance.uniform(0, 0.12))
            os.kill(process.pid, signal.SIGKILL)
    assert 0 < len(read_ledger(tmp_path / "ledger.jsonl")) < 120
    with slow_search(tmp_path, "--resume") as process:
        assert process.wait() == 0
    assert content(read_ledger(tmp_path / "ledger.jsonl")) == content(undisturbed())
    assert json.loads((tmp_path / "best.json").read_text())["score"] == max(e.score for e in undisturbed())


def test_a_folder_in_use_by_another_process_is_refused_and_free_when_it_is_killed(tmp_path):
    with slow_search(tmp_path) as process:
        process.stdout.readline()
        os.kill(process.pid, signal.SIGSTOP)  # so that it cannot finish meanwhile
        with slow_search(tmp_path, "--resume") as second:
            assert f"is in use by process {process.pid}" in second.stderr.read()
        process.kill()
    with RunFolder(tmp_path, read_settings(tmp_path), resume=True) as run:
        assert run.ledger.evaluations


@contextmanager
def full_disk(folder):
    """A real file system of a few pages; yields what gives it more room."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", folder], check=False).returncode:
        # a file-size limit stands in for the full disk in the tests that need no root
        pytest.skip("mounting a small file system needs root")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=4m", folder], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def full_quota(folder):
    """Files that may not grow beyond a few kB, for the processes that are started until it yields more room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
@pytest.mark.parametrize("full", [full_disk, full_quota])
def test_a_full_disk_says_what_is_safe_and_the_run_continues_after(tmp_path, full):
    run = tmp_path / "disk" / "run"
    with full(tmp_path / "disk") as make_room:
        with slow_search(run) as process:
            said = process.stderr.read().splitlines()
            assert process.wait() == 1
        kept = read_ledger(run / "ledger.jsonl")
        assert 0 < len(kept) < 120
        assert len(said) == 1
        assert said[0].startswith("RunError: cannot write")
        assert f"its {len(kept)} evaluations are safe: make room, then continue with --resume" in said[0]
        assert (run / "ledger.jsonl").read_bytes().endswith(b"\n"), "the half-written line was taken back"
        make_room()
        with slow_search(run, "--resume") as process:
            assert process.wait() == 0, process.stderr.read()
        assert content(read_ledger(run / "ledger.jsonl")) == content(undisturbed())


def test_a_disk_too_full_for_run_json_leaves_no_half_file(tmp_path):
    with slow_search(
        tmp_path / "run", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    ) as process:
        assert "cannot write" in process.stderr.read()
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["lock"]
    assert nas.search(SPACE, synthetic(SPACE), evals=1, out=tmp_path / "run").best, "such a folder counts as empty"


def test_a_folder_with_anything_in_it_is_never_taken_over(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"not empty \(it holds thesis.tex\): continue with --resume"):
        nas.search(SPACE, synthetic(SPACE), evals=1, out=tmp_path)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "lock"] == ["thesis.tex"]


def test_a_finished_run_is_not_overwritten(tmp_path):
    nas.search(SPACE, synthetic(SPACE), evals=3, out=tmp_path)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    with pytest.raises(RunError, match="--resume"):
        nas.search(SPACE, synthetic(SPACE), evals=3, out=tmp_path)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "holds no run"),
        ("{", "is broken"),
        ("[]", "not the settings"),
        ("{}", "has no space"),
        ("[" * 100_000, "is broken"),
    ],
)
def test_a_folder_without_settings_cannot_be_resumed(tmp_path, text, says):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=says):
        nas.search(SPACE, synthetic(SPACE), evals=3, out=tmp_path, resume=True)


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for resume in (False, True):
        with pytest.raises(RunError, match="file"):
            nas.search(SPACE, synthetic(SPACE), evals=3, out=tmp_path / "file", resume=resume)


def test_run_json_of_a_continued_run_tells_what_was_planned_first_and_last(tmp_path):
    for evals in (3, 5):
        nas.search(SPACE, synthetic(SPACE), evals=evals, out=tmp_path, resume=evals > 3, settings={"evals": evals})
    run = read_settings(tmp_path)
    assert (run["planned_evals"], run["evals"], run["settings"], len(run["resumed"])) == (3, 5, {"evals": 5}, 1)


@pytest.mark.parametrize("value", [None, "x", -0.5, [], {}, [3], "missing"])
@pytest.mark.parametrize("key", ["space", "budgets", "objectives", "costs", "score", "evals", "planned_evals",
                                 "front_cost", "space_size", "space_fits", "maximize", "warm_start"])  # fmt: skip
def test_settings_changed_by_hand_are_refused_or_reported_but_never_a_traceback(tmp_path, key, value):
    params = params_of(SPACE)
    options = {"costs": {"params": params}, "budgets": ["params<=400K"], "evals": 3, "out": tmp_path}
    nas.search(SPACE, synthetic(SPACE), **options)
    settings = json.loads((tmp_path / "run.json").read_text())
    settings[key] = value
    if value == "missing":
        del settings[key]
    (tmp_path / "run.json").write_text(json.dumps(settings))
    for use in (lambda: report_run(tmp_path), lambda: nas.search(SPACE, synthetic(SPACE), resume=True, **options)):
        with suppress(RunError):
            use()


def test_settings_that_json_cannot_hold_are_refused_before_anything_is_scored(tmp_path):
    with pytest.raises(RunError, match=r"cannot write .*run\.json: numbers must be finite"):
        nas.search(SPACE, lambda subnets: pytest.fail("scored"), evals=3, out=tmp_path, settings={"x": float("inf")})
    assert not (tmp_path / "run.json").exists()
