"""`nas eval`."""

import json

import pytest

from tests.nas.commands.helpers import nas
from tests.supernet.conftest import SPACE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "taste"), "unknown task 'taste'; known: speaker, language"),
        (("--task", "language"), "every train recording has the language 'en'"),
        (("--task", "emotion"), "36 of 36 recordings have no 'emotion': ann0"),
        (("--task", "speaker", "--learning-rate", "0"), "learning rates must be numbers above 0"),
        (("--task", "speaker", "--model", "nothing"), "no supernet 'nothing'"),
        (
            ("--task", "speaker", "--window", "12"),
            "--recordings and --against are of the task transcription",
        ),
        (("--task", "transcription", "--beam", "3"), "transcription trains nothing: options of heads have no effect"),
        (("--task", "transcription", "--model", "hubert-tiny"), "this supernet has no decoder"),
        (("--task", "transcription", "--against", "none.json"), "no none.json: nas eval --out writes one"),
    ],
)
def test_bad_words_end_with_one_line(exported, manifest, arguments, said):
    done = nas("eval", "--manifest", manifest, "--model", exported, *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_writes_its_result(exported, manifest, tmp_path):
    arguments = ("--model", exported, "--task", "intent", "--manifest", manifest, "--seeds", 1, "--epochs", 3)
    done = nas("eval", *arguments, "--out", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["task"] == "intent"
    assert record["upstream"]["subnet"]["embed_dim"] == SPACE["embed_dims"][0]
