from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nas.cluster.sweep import grid
from search_spaces import RunError
from tests.nas.commands.helpers import NAS, nas


def test_the_grid_holds_every_combination_under_a_name_of_its_own():
    jobs = grid(
        ["latency_ms<=5", "latency_ms<=10 and params<=2M"], ["torch", "onnxruntime,threads=1"], ["exact"], [0, 1]
    )
    assert len(jobs) == 8
    assert jobs["latency_ms-10@onnxruntime,threads=1-params-2M-exact-seed1"] == {
        "budgets": ["latency_ms<=10@onnxruntime,threads=1", "params<=2M"], "searcher": "exact", "seed": 1,
    }  # fmt: skip
    assert list(grid([], [], ["random"], [3])) == ["random-seed3"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_sweep_that_was_killed_goes_on_and_is_compared(tmp_path):
    out = tmp_path / "sweep"
    words = ["sweep", "--budget", "params<=2.5M", "--budget", "params<=1K", "--searcher", "random", "--seed", "0"]
    words += ["--evals", "24", "--batch", "2", "--out", str(out)]
    ledger = out / "runs" / "params-2.5M-random-seed0" / "ledger.jsonl"
    with subprocess.Popen([*NAS, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        for _ in range(2400):
            if process.poll() is not None or (ledger.exists() and ledger.read_text().count("\n") > 4):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    for _ in range(600):  # the worker ends when it sees that its driver did
        if json.loads(nas("status", out, "--json").stdout)[0]["state"] != "running":
            break
        time.sleep(0.1)
    before = ledger.read_text()
    done = nas("sweep", "--resume", out, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert found["params-1K-random-seed0"]["error"].startswith("no subnet of 'hubert-tiny' keeps params<=1,000")
    assert found["params-2.5M-random-seed0"]["evaluations"] == 24
    assert found["params-2.5M-random-seed0"]["costs"]["params"] <= 2_500_000
    lines = ledger.read_text().splitlines(keepends=True)
    assert len({json.loads(line)["id"] for line in lines}) == len(lines) == 24
    assert lines[: before.count("\n")] == before.splitlines(keepends=True)[: before.count("\n")]
    assert (out / "report.html").exists()
    assert list((out / "tune").glob("*/progress.csv"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_nodes_do_not_see_is_refused(monkeypatch, tmp_path):
    ray = pytest.importorskip("ray")
    from nas.cluster import sweep

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        sweep._check_seen(ray, tmp_path / "seen")
        touch, unlink = Path.touch, Path.unlink
        monkeypatch.setattr(Path, "touch", lambda file: touch(tmp_path / file.name))  # elsewhere, as another node would
        monkeypatch.setattr(Path, "unlink", lambda file: unlink(tmp_path / file.name))
        with pytest.raises(RunError, match=r"cannot be seen from 1 of 1 nodes .* all nodes share, or a URL"):
            sweep._check_seen(ray, tmp_path / "blind")
    finally:
        ray.shutdown()
