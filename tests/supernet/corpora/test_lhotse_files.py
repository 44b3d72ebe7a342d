"""Manifests that lhotse itself has written."""

import gzip

import numpy as np
import pytest
import soundfile

from search_spaces import AudioError
from supernet.audio import read_manifest

lhotse = pytest.importorskip("lhotse")


@pytest.fixture
def made(tmp_path, recording):
    """A recording, and two supervisions of it."""
    samples = recording(tmp_path / "audio" / "a.wav")
    spoken = [
        lhotse.SupervisionSegment("s1", "a", 0.25, 0.5, text="hello", speaker="ann", custom={"emotion": "glad"}),
        lhotse.SupervisionSegment("s2", "a", 1.0, 1.0, text="you", speaker="bob", language="en"),
    ]
    source = lhotse.Recording.from_file(tmp_path / "audio" / "a.wav")
    return lhotse.RecordingSet.from_recordings([source]), lhotse.SupervisionSet.from_segments(spoken), samples


def test_cuts_are_utterances(tmp_path, made):
    recordings, supervisions, samples = made
    cuts = lhotse.CutSet.from_manifests(recordings, supervisions)
    cuts.to_file(tmp_path / "x_cuts_train.jsonl.gz")
    cuts.trim_to_supervisions().to_file(tmp_path / "x_cuts_dev.jsonl.gz")
    (whole,) = read_manifest(tmp_path / "x_cuts_train.jsonl.gz")
    assert (whole.audio, whole.seconds, whole.split, whole.text) == (tmp_path / "audio" / "a.wav", 2.0, "train", None)
    assert whole.turns == [[0.25, 0.75, "ann"], [1.0, 2.0, "bob"]]
    first, second = read_manifest(tmp_path, "dev")
    assert (first.seconds, first.text, first.speaker, first.emotion) == (0.5, "hello", "ann", "glad")
    assert (second.seconds, second.text, second.language) == (1.0, "you", "en")
    np.testing.assert_array_equal(soundfile.read(first.audio, dtype="int16")[0], samples[2000:6000])


def test_supervisions_are_utterances_if_there_are_no_cuts(tmp_path, made):
    recordings, supervisions, _ = made
    supervisions.to_file(tmp_path / "x_supervisions_test.jsonl.gz")
    with pytest.raises(AudioError, match=r"needs its recordings beside it: x_recordings_test\.jsonl\.gz"):
        read_manifest(tmp_path)
    recordings.to_file(tmp_path / "x_recordings_test.jsonl.gz")
    assert [(each.id, each.split, each.seconds) for each in read_manifest(tmp_path)] == [
        ("s1", "test", 0.5),
        ("s2", "test", 1.0),
    ]


def test_a_recording_that_is_a_command_is_refused_and_never_run(tmp_path, made):
    recordings, supervisions, _ = made
    cuts = lhotse.CutSet.from_manifests(recordings, supervisions)
    (cut,) = cuts
    cut.recording.sources[0].type, cut.recording.sources[0].source = "command", f"touch {tmp_path / 'ran'}"
    lhotse.CutSet.from_cuts([cut]).to_file(tmp_path / "cuts.jsonl.gz")
    with pytest.raises(AudioError, match="recording 'a' must be one file; got command: commands are never run"):
        read_manifest(tmp_path / "cuts.jsonl.gz")
    assert not (tmp_path / "ran").exists()


def test_what_lhotse_cannot_read_is_one_line(tmp_path):
    (tmp_path / "cuts.jsonl.gz").write_bytes(gzip.compress(b'{"id": 1}\n'))
    with pytest.raises(AudioError, match=r"cannot read .*cuts\.jsonl\.gz"):
        read_manifest(tmp_path / "cuts.jsonl.gz")
