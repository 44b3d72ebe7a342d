"""Names that are taken by others: one line says what is where, and what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces.rooms import check_rooms, other_owners

ROOT = Path(__file__).parents[2]


def python(code, *folders):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*folders, ROOT)))}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, cwd=folders[0], capture_output=True, text=True, check=False)


def test_nothing_is_taken_here():
    check_rooms()
    assert other_owners() == {}


@pytest.mark.parametrize("taken", ["evaluators/__init__.py", "nas/__init__.py", "search_spaces/__init__.py", "nas.py"])
def test_the_command_names_what_hides_a_package_and_the_way_out(tmp_path, taken):
    file = tmp_path / taken
    file.parent.mkdir(exist_ok=True)
    file.touch()
    done = python("import cli; cli.main()", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    name = taken.partition("/")[0].removesuffix(".py")
    assert done.stderr.startswith(f"nas: '{name}' is '{tmp_path / taken.removesuffix('/__init__.py')}', which hides")
    assert done.stderr.endswith("rename it, or start from another folder\n")


def test_importing_says_it_too(tmp_path):
    (tmp_path / "supernet.py").touch()
    done = python("import nas", tmp_path)
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: 'supernet' is '{tmp_path / 'supernet.py'}'")


def test_a_package_that_was_installed_is_named(tmp_path):
    """As pip installs it: a folder of packages, with the metadata of a distribution."""
    folder = tmp_path / "site-packages"
    (folder / "nas").mkdir(parents=True)
    (folder / "nas" / "__init__.py").touch()
    about = folder / "attached_storage-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: attached-storage\nVersion: 1.0\n")
    (about / "top_level.txt").write_text("nas\n")
    assert python("import cli; cli.main()", folder).stderr.endswith(": pip uninstall attached-storage\n")
