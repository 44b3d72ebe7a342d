"""Training in two processes is training in one, with the batch that both share."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest

import supernet.training.processes as processes_module
from search_spaces import NasError
from supernet.training.processes import Processes, joined, processes
from tests.supernet.training.helpers import curve


@pytest.mark.slow
def test_two_processes_of_torchrun_have_the_loss_curve_of_one_with_the_doubled_batch(command, tmp_path):
    arguments, one = command
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cli"]
    result = subprocess.run(
        [*torchrun, *arguments, "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert len(set(one)) > 10
    assert curve(tmp_path) == pytest.approx(one, rel=2e-4)
    assert (tmp_path / "supernet" / "calibration.safetensors").exists()


def test_shares_are_put_in_order_again():
    rows = list(range(7))
    assert [list(Processes(rank, 3).share(rows)) for rank in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert processes() == Processes(0, 1)
    assert processes().in_order(rows) == rows


@pytest.mark.parametrize(
    ("device", "message"),
    [("tpu", "device must be cpu or cuda; got 'tpu'"), ("cuda:99", "device=cuda:99 is not on this machine")],
)
def test_a_device_that_is_not_on_this_machine_is_refused(device, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(NasError, match=message), joined(device):
        pass


def test_processes_that_cannot_connect_are_reported_in_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(NasError, match="WORLD_SIZE is '2', but the processes cannot connect within"), joined("cpu"):
        pass


def test_without_torchrun_a_process_trains_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as device:
        assert (device, processes()) == ("cpu", Processes(0, 1))


@pytest.mark.parametrize("rank", ["0", "1"])
def test_variables_left_over_from_another_job_are_a_line_and_no_hang(monkeypatch, rank):
    for name, value in {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29717"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes_module, "JOIN", timedelta(seconds=1))
    with pytest.raises(NasError, match="left over from another job, unset RANK and WORLD_SIZE"), joined("cpu"):
        pytest.fail("joined nobody")
