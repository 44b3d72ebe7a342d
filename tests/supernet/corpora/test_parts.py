"""Parts of recordings: exact, written once, and named by where they come from."""

import numpy as np
import pytest
import soundfile

from supernet.corpora.parts import content_file, labels_of, part_file, split_of


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
def test_a_part_has_the_samples_of_the_recording(tmp_path, subtype):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (8000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype=subtype)
    part = part_file(tmp_path / "a.wav", 0.25, 0.5)
    whole, _ = soundfile.read(tmp_path / "a.wav")
    np.testing.assert_array_equal(soundfile.read(part)[0], whole[2000:4000])
    before = part.stat().st_mtime_ns
    assert part_file(tmp_path / "a.wav", 0.25, 0.5).stat().st_mtime_ns == before
    assert part_file(tmp_path / "a.wav", 0.25, 0.75) != part


def test_content_is_kept_as_it_is():
    assert content_file(b"RIFF").read_bytes() == b"RIFF"
    assert content_file(b"RIFF") == content_file(b"RIFF") != content_file(b"RIFX")


def test_names_of_others_become_ours():
    names = ("libri_cuts_train-clean-5.jsonl.gz", "validation", "x_eval", "data", "testing")
    assert [split_of(name) for name in names] == ["train", "dev", "test", None, None]
    row = {"transcript": "a", "speaker_id": 3, "emotion": None, "turns": [1], "intent": True, "pitch": 2}
    assert labels_of(row) == {"text": "a", "speaker": "3", "intent": "True"}
