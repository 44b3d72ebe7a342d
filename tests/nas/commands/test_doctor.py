"""`nas doctor`: a block that can be pasted anywhere, and is right about what is missing."""

import json
import re
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

import nas.commands.doctor as doctor
from evaluators.costs.latency.calibration import FORMAT
from search_spaces.files import cache_folder, write_json


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOGNAME", "ann")
    return tmp_path


def test_it_says_what_is_there_and_what_is_missing(home, monkeypatch):
    write_json(cache_folder() / "latency" / "old.json", {"format": FORMAT})
    (home / "cache" / "lighthubert-nas" / "ann").write_bytes(bytes(2_000_000))
    named = ["numpy>=2", "ghost>=1; extra == 'ghosts'", "pytest>=8; extra == 'dev'", "rich; python_version < '3'"]
    monkeypatch.setattr(doctor, "requires", lambda distribution: named)
    done = CliRunner().invoke(doctor.app)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert "cache: ~/cache/lighthubert-nas: 2 files, 2.0 MB" in lines
    assert (
        "  old.json: not valid here: ~/cache/lighthubert-nas/latency/old.json is not a latency calibration: 'space'"
        in lines
    )
    assert any(re.fullmatch(r"  hubert-tiny: [\d.]+ MB of weights", line) for line in lines)
    start = lines.index("packages:")
    assert lines[start + 1 :] == [
        f"  numpy: {version('numpy')}",
        "  ghost: not installed: pip install 'lighthubert-nas[ghosts]'",
        "problems: none",
    ]
    assert str(home) not in done.stdout


def test_a_package_that_is_needed_and_missing_or_old_breaks_the_installation(home, monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda distribution: ["ghost>=1", "numpy>=999"])
    done = CliRunner().invoke(doctor.app, ["--json"])
    assert done.exception.exit_status == 4
    record = json.loads(done.stdout)
    assert record["problems"] == [
        "ghost: not installed: pip install 'ghost>=1'",
        f"numpy: {version('numpy')}, but >=999 is needed: pip install 'numpy>=999'",
    ]


def test_paths_name_neither_the_user_nor_the_home_folder(home):
    text = {"a": [f"{home}/x and {home}", "/scratch/ann/cache: ann", f"{home}s"]}
    assert doctor.private(text) == {"a": ["~/x and ~", "/scratch/USER/cache: ann", f"{home}s"]}
