"""Each benchmark runs as its docstring says, from the repository root."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from benchmarks import evidence, gpu

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


OUTPUT = """loading
first title

| a | b  |
|---|----|
| 1 | 22 |

second title:
| c |
|---|
| 3 |
4 seeds; commit abc1234; python -m benchmarks.some --out x; x86_64
"""


def test_evidence_is_a_table_with_its_title_command_and_commit(tmp_path, monkeypatch):
    monkeypatch.setitem(evidence.COMMANDS, "some", ("some --out x",))
    monkeypatch.setitem(evidence.PIECES, "piece", ("some", 0, slice(1, 2)))
    record = {"weights": "0123", "command": "some --out x", "text": OUTPUT}
    (tmp_path / "some-0.json").write_text(json.dumps(record), encoding="utf-8")
    expected = "second title:\n\n| c |\n|---|\n| 3 |\n\n`python -m benchmarks.some --out x`, commit abc1234."
    assert evidence.block("piece", "0123", tmp_path) == expected
    assert evidence.block("piece", "4567", tmp_path) is None, "of other weights"


def test_evidence_takes_the_place_of_what_stood_there(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("no tables", encoding="utf-8")
    page = tmp_path / "docs" / "page.md"
    page.write_text("before\n<!-- evidence: piece -->\n| old |\n<!-- /evidence -->\nafter\n", encoding="utf-8")
    for text in ("| new |", "| newer |"):
        evidence.insert("piece", "0123", text)
    marked = "<!-- evidence: piece; weights 0123 -->\n\n| newer |\n\n<!-- /evidence -->"
    assert page.read_text(encoding="utf-8") == f"before\n{marked}\nafter\n"
    with pytest.raises(SystemExit, match="one place in the documents"):
        evidence.insert("other", "0123", "| new |")


def test_checks_of_a_gpu_are_skipped_without_one(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    gpu.main()
    assert capsys.readouterr().out == "no GPU on this machine: skipped\n"
