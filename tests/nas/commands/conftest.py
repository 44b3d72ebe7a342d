"""A finished run, made once: searching takes seconds."""

import json

import pytest

from tests.evaluators.tasks.conftest import exported, manifest, model, tones  # noqa: F401 - fixtures
from tests.nas.commands.helpers import BUDGET, nas


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run folder, and what `nas search --json` printed of it. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    done = nas("search", *BUDGET, "--evals", 8, "--batch", 4, "--out", folder, "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)
