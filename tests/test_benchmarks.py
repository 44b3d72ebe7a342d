"""Each benchmark runs as its docstring says, from the repository root."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(file.stem for file in FOLDER.glob("*.py") if "__main__" in file.read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore")  # of packages that only benchmarks import
@pytest.mark.parametrize("name", NAMES)
def test_help_is_printed(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: python -m benchmarks.{name} [-h]")
    assert f"python -m benchmarks.{name}" in shown.split("\n\n", 1)[1], "its docstring shows how to run it"


def test_every_benchmark_is_found():
    assert {"additive", "ray_faults", "tasks"} <= set(NAMES)
