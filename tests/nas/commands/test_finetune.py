"""`nas finetune`."""

import json

from tests.nas.commands.helpers import nas


def test_the_command_line(exported, manifest, tmp_path):
    arguments = ("finetune", "--model", exported, "--task", "intent", "--manifest", manifest, "--steps", 3)
    done = nas(*arguments, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"]["accuracy"]["value"] >= 0
