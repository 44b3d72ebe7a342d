"""`nas finetune`."""

import json
import subprocess
import sys


def test_the_command_line(exported, manifest, tmp_path):
    arguments = ("finetune", "--model", exported, "--task", "intent", "--manifest", manifest, "--steps", 3)
    command = [sys.executable, "-m", "cli", *map(str, arguments), "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"]["accuracy"]["value"] >= 0
