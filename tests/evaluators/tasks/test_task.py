"""The tasks by name."""

from evaluators.tasks import TASKS


def test_every_task_says_what_it_needs():
    assert set(TASKS) == {
        "speaker",
        "language",
        "keyword",
        "intent",
        "emotion",
        "verification",
        "asr",
        "phones",
        "diarization",
    }
