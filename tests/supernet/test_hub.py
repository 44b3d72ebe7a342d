"""Names on the Hub: read from huggingface_hub's own cache, and one clear line if they are not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supernet.hub import is_hub_name, local_folder
from tests.supernet.families import saved

CODE = """
import sys
from supernet import load_supernet
from supernet.teacher import load_teacher
print(load_supernet("org/narrow-hubert").space.name, load_teacher("org/narrow-hubert").kind)
try:
    load_supernet("org/missing")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_what_is_a_name_and_what_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").mkdir()
    assert is_hub_name("openai/whisper-base")
    assert not any(map(is_hub_name, ("a/b", "hubert-tiny", "a/b/c", "/abs", "./x", "../x", "a/")))
    assert local_folder(tmp_path) == tmp_path


@pytest.fixture
def cache(tmp_path):
    """A cache as huggingface_hub lays it out, with one model."""
    folder = tmp_path / "models--org--narrow-hubert"
    snapshot = folder / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(snapshot.name)
    saved("hubert-base", snapshot)
    return tmp_path


def test_a_name_is_read_from_the_cache_and_offline_said_in_one_line(cache):
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()[-2:]
    assert first == "hubert-24 hubert"
    assert second.startswith("CheckpointError cannot get org/missing: ")
    assert "not in the cache and the Hub cannot be reached" in second
