"""Training in two processes is training in one, with the batch that both share."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from supernet.training.processes import Processes, processes
from tests.supernet.training.test_distil import _toml

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def command(small_space, corpus, teacher_folder, tmp_path_factory):
    """Training words, and the log of one process that follows them."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "space.toml").write_text(_toml(small_space))
    words = [
        "train", "--teacher", str(teacher_folder), "--audio", str(corpus), "--space", str(folder / "space.toml"),
        "--stage1-steps", "5", "--stage2-steps", "9", "--batch-seconds", "3", "--precision", "fp32",
        "--mask-from", "0.3",
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "cli", *words, "--out", str(folder)], check=True, capture_output=True)
    return words, curve(folder)


def curve(folder):
    lines = [line for stage in (1, 2) for line in (folder / f"stage{stage}" / "log.jsonl").read_text().splitlines()]
    records = [json.loads(line) for line in lines]
    return [record["loss"] for record in records if "loss" in record] + [
        value for record in records for values in record.get("dev", {}).values() for value in values
    ]


def test_two_processes_of_torchrun_have_the_loss_curve_of_one_with_the_doubled_batch(command, tmp_path):
    words, one = command
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cli"]
    done = subprocess.run([*torchrun, *words, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(set(one)) > 10
    assert curve(tmp_path) == pytest.approx(one, rel=2e-4)
    assert (tmp_path / "supernet" / "calibration.safetensors").exists()


def test_ray_train_has_the_same_loss_curve(command, tmp_path):
    pytest.importorskip("ray")
    words, one = command
    nas = [sys.executable, "-m", "cli", *words, "--out", str(tmp_path), "--ray", "local", "--workers", "2"]
    nas += ["--cpus-per-worker", "0.5"]
    done = subprocess.run(nas, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "supernet: " in done.stdout
    assert curve(tmp_path) == pytest.approx(one, rel=2e-4)


def test_parts_are_put_in_order_again():
    rows = list(range(7))
    assert [list(Processes(rank, 3).share(rows)) for rank in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert processes() == Processes(0, 1)
    assert processes().in_order(rows) == rows
