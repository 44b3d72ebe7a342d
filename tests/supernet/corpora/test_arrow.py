"""Datasets that `save_to_disk` has written, with recordings inside and beside."""

import pytest

from search_spaces import AudioError
from supernet.audio import load_audio, read_manifest

datasets = pytest.importorskip("datasets")


@pytest.fixture
def table(tmp_path, recording):
    """Two recordings: one in the table, one beside it."""
    for name in ("a", "b"):
        recording(tmp_path / "audio" / f"{name}.wav", seed=ord(name), seconds=1.0)
    inside = {"bytes": (tmp_path / "audio" / "a.wav").read_bytes(), "path": "a.wav"}
    beside = {"bytes": None, "path": str(tmp_path / "audio" / "b.wav")}
    made = datasets.Dataset.from_dict(
        {"audio": [inside, beside], "transcription": ["hello", None], "speaker_id": [7, 8], "emotion": [0, 1]}
    )
    datasets.disable_progress_bars()
    named = made.cast_column("emotion", datasets.ClassLabel(names=["calm", "glad"]))
    return named.cast_column("audio", datasets.Audio())


def test_splits_and_labels_have_our_names(tmp_path, table):
    datasets.DatasetDict({"train": table, "validation": table}).save_to_disk(tmp_path / "saved")
    utterances = read_manifest(tmp_path / "saved")
    assert [each.split for each in utterances] == ["train", "train", "dev", "dev"]
    first, second = utterances[:2]
    assert (first.text, first.speaker, first.emotion, first.seconds) == ("hello", "7", "calm", 1.0)
    assert (second.text, second.speaker, second.emotion) == (None, "8", "glad")
    for utterance, name in ((first, "a"), (second, "b")):
        assert (load_audio(utterance.audio) == load_audio(tmp_path / "audio" / f"{name}.wav")).all()


def test_one_table_has_the_split_of_its_folder_and_needs_audio(tmp_path, table):
    table.save_to_disk(tmp_path / "test")
    assert [each.split for each in read_manifest(tmp_path / "test")] == ["test", "test"]
    table.remove_columns("audio").save_to_disk(tmp_path / "none")
    with pytest.raises(AudioError, match="must have one audio column; got none"):
        read_manifest(tmp_path / "none")
    (tmp_path / "test" / "state.json").write_text("{}")
    with pytest.raises(AudioError, match=r"cannot read .*test: "):
        read_manifest(tmp_path / "test")
