"""Training on a Ray cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.supernet.training.helpers import space_toml


@pytest.fixture(scope="module")
def command(small_space, corpus, teacher_folder, tmp_path_factory):
    """Arguments of `nas train`, and the losses of one process that runs them."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "space.toml").write_text(space_toml(small_space))
    arguments = [
        "train", "--teacher", str(teacher_folder), "--audio", str(corpus), "--space", str(folder / "space.toml"),
        "--stage1-steps", "5", "--stage2-steps", "9", "--batch-seconds", "3", "--precision", "fp32",
        "--mask-from", "0.3",
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "cli", *arguments, "--out", str(folder)], check=True, capture_output=True)
    return arguments, curve(folder)


def curve(folder):
    lines = [line for stage in (1, 2) for line in (folder / f"stage{stage}" / "log.jsonl").read_text().splitlines()]
    records = [json.loads(line) for line in lines]
    return [record["loss"] for record in records if "loss" in record] + [
        value for record in records for values in record.get("dev", {}).values() for value in values
    ]


@pytest.mark.slow
def test_ray_train_has_the_same_loss_curve(command, tmp_path):
    pytest.importorskip("ray")
    arguments, one = command
    nas = [sys.executable, "-m", "cli", *arguments, "--out", str(tmp_path), "--ray", "local", "--workers", "2"]
    nas += ["--cpus-per-worker", "0.5"]
    result = subprocess.run(
        nas, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 0, result.stderr
    assert "supernet: " in result.stdout
    assert curve(tmp_path) == pytest.approx(one, rel=2e-4)
