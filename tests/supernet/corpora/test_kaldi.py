"""Kaldi's data folders; a pipe in wav.scp is refused and never run."""

import numpy as np
import pytest
import soundfile

from search_spaces import AudioError
from supernet.audio import read_manifest


@pytest.fixture
def folder(tmp_path, recording):
    """Data folders train and dev of one recording each, with two segments."""
    for split in ("train", "dev"):
        recording(tmp_path / "wav" / f"{split}.wav", seed=len(split))
        (tmp_path / split).mkdir()
        (tmp_path / split / "wav.scp").write_text(f"{split}-a wav/{split}.wav\n")
        (tmp_path / split / "segments").write_text(f"{split}-u1 {split}-a 0.25 0.75\n{split}-u2 {split}-a 1.00 -1\n")
        (tmp_path / split / "text").write_text(f"{split}-u1 HELLO  YOU\n{split}-u2\n")
        (tmp_path / split / "utt2spk").write_text(f"{split}-u1 ann\n{split}-u2 bob\n")
    return tmp_path


def test_segments_are_utterances_with_their_labels(folder):
    first, second = read_manifest(folder, "train")
    assert (first.id, first.seconds, first.text, first.speaker) == ("train-u1", 0.5, "HELLO  YOU", "ann")
    assert (second.id, second.seconds, second.text, second.speaker) == ("train-u2", 1.0, "", "bob")
    whole, _ = soundfile.read(folder / "wav" / "train.wav", dtype="int16")
    part, rate = soundfile.read(first.audio, dtype="int16")
    assert rate == 8000
    np.testing.assert_array_equal(part, whole[2000:6000])
    assert [each.split for each in read_manifest(folder)] == ["dev", "dev", "train", "train"]


def test_whole_recordings_are_read_in_place(folder):
    (folder / "dev" / "segments").unlink()
    (folder / "dev" / "text").unlink()
    (only,) = read_manifest(folder / "dev")
    assert (only.id, only.audio, only.seconds, only.text) == ("dev-a", folder / "wav" / "dev.wav", 2.0, None)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "wav.scp",
            "train-a touch {ran} |\n",
            "'train-a' is a command .* which is never run: write its output to a fi",
        ),
        ("wav.scp", "train-a |touch {ran}\n", "is a command"),
        ("wav.scp", "train-a -\n", "is a command"),
        ("wav.scp", "train-a nowhere.wav\n", "cannot read audio .*nowhere.wav: no such file"),
        ("wav.scp", "train-a\n", "line 1: needs a name of its own and a value"),
        ("segments", "train-u1 other 0 1\n", "'train-u1' is of 'other', which is not in wav.scp"),
        ("segments", "train-u1 train-a 0 soon\n", "needs a recording, a start and an end"),
        ("segments", "train-u1 train-a 1.5 9\n", r"goes from 1\.5 to 9 s of .*train\.wav, which has 2 s"),
        ("segments", "train-u1 train-a 1 0.5\n", r"goes from 1 to 0\.5 s"),
        ("segments", "train-u1 train-a nan 1\n", "goes from nan to 1 s"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_run(folder, file, text, said):
    (folder / "train" / file).write_text(text.format(ran=folder / "ran"))
    with pytest.raises(AudioError, match=said) as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "ran").exists()
