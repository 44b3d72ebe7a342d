"""Training on a Ray cluster."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.supernet.training.helpers import curve


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
