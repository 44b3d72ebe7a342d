"""Audio folders of Hugging Face's datasets."""

import json

import pytest

from search_spaces import AudioError
from supernet.audio import read_manifest


def test_metadata_of_each_split_is_read_in_place(tmp_path, recording):
    for split in ("train", "validation"):
        recording(tmp_path / split / "deep" / "a.wav")
    (tmp_path / "train" / "metadata.csv").write_text('file_name,transcription,speaker_id\ndeep/a.wav,"one, two",7\n')
    row = {"file_name": "deep/a.wav", "text": "three", "language": "en"}
    (tmp_path / "validation" / "metadata.jsonl").write_text(json.dumps(row))
    train, dev = read_manifest(tmp_path)
    assert (train.id, train.split, train.text, train.speaker) == ("train/deep/a.wav", "train", "one, two", "7")
    assert (dev.audio, dev.split, dev.language) == (tmp_path / "validation" / "deep" / "a.wav", "dev", "en")


def test_one_metadata_file_names_the_splits_by_folder_or_column(tmp_path, recording):
    recording(tmp_path / "train" / "a.wav")
    recording(tmp_path / "b.wav")
    (tmp_path / "metadata.csv").write_text("file_name,split\ntrain/a.wav,\nb.wav,test\n")
    assert [(each.id, each.split) for each in read_manifest(tmp_path)] == [("train/a.wav", "train"), ("b.wav", "test")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name\na.wav\n", "each row needs a file_name"),
        ("file_name\ngone.wav\n", r"cannot read audio .*gone\.wav"),
        ("file_name\n/gone.wav\n", "a file_name must be relative to its folder; got '/gone.wav'"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, text, said):
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(AudioError, match=said):
        read_manifest(tmp_path)
