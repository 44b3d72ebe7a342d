"""Manifests, recordings and batches."""

import json

import numpy as np
import pytest
import soundfile

from search_spaces import AudioError
from supernet.audio import Utterance, batches, load_audio, normalise, read_manifest, seconds_of


def tone(rate, seconds=1.0):
    return np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def test_other_rates_and_channels_become_16_khz_mono(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(8_000), tone(8_000)], 1), 8_000)
    samples = load_audio(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    assert len(samples) == 16_000
    assert np.abs(samples - tone(16_000))[500:-500].max() < 0.01


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "cannot read audio"),
        (b"this is a text", "cannot read audio"),
        (np.zeros(0, np.float32), "has 0 samples"),
        (np.zeros(399, np.float32), "has 399 samples at 16 kHz; one frame needs 400"),
        (np.full(500, np.nan, np.float32), "not finite"),
    ],
)
def test_recordings_that_cannot_be_used_say_why(tmp_path, content, message):
    file = tmp_path / "a.wav"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        soundfile.write(file, content, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(file)
    assert "\n" not in str(caught.value)


def test_normalised_speech_has_mean_0_and_variance_1():
    out = normalise(3 + 5 * tone(16_000))
    assert abs(out.mean()) < 1e-5
    assert out.var() == pytest.approx(1, abs=1e-4)
    assert np.isfinite(normalise(np.zeros(500, np.float32))).all()


def test_batches_hold_everything_once_within_the_limit():
    seconds = np.random.default_rng(0).uniform(0.4, 20, 300)
    for rng in (None, np.random.default_rng(1)):
        groups = list(batches(seconds, 32, rng))
        assert sorted(i for group in groups for i in group) == list(range(300))
        assert all(len(g) == 1 or len(g) * seconds[g].max() <= 32 for g in groups)
    assert list(batches([50.0], 32)) == [[0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no utterance"),
        ("{", "line 1: needs JSON"),
        ('{"audio": "a.wav"}', 'line 1: needs JSON with "audio" and "seconds"'),
        ('{"audio": "a.wav", "seconds": "long"}', "line 1"),
        ('{"audio": "a.wav", "seconds": 1}\n{"audio": "a.wav", "seconds": 1}', "names 'a.wav' twice"),
    ],
)
def test_bad_manifests_name_the_line(tmp_path, text, message):
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(AudioError, match=message):
        read_manifest(tmp_path / "m.jsonl")


def test_an_unknown_split_lists_the_known_ones(tmp_path):
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio": "a.wav", "seconds": 1, "split": "train"}))
    assert read_manifest(tmp_path / "m.jsonl", "train")[0].audio == tmp_path / "a.wav"
    with pytest.raises(AudioError, match="no utterance of split 'dev'; splits: train"):
        read_manifest(tmp_path / "m.jsonl", "dev")
    with pytest.raises(AudioError, match="cannot read manifest"):
        read_manifest(tmp_path / "none.jsonl")


def test_a_line_needs_only_audio_and_seconds_and_labels_are_optional(tmp_path):
    lines = [
        {"audio": "a.wav", "seconds": 1, "colour": "red"},
        {"audio": str(tmp_path / "b.wav"), "seconds": "2.5", "id": 7, "speaker": "s", "turns": [[0, 1, "x"]]},
    ]
    (tmp_path / "m.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    assert read_manifest(tmp_path / "m.jsonl") == [
        Utterance("a.wav", tmp_path / "a.wav", 1.0),
        Utterance("7", tmp_path / "b.wav", 2.5, speaker="s", turns=[[0, 1, "x"]]),
    ]


def test_manifests_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(AudioError, match=r"cannot read manifest .*utf-8"):
        read_manifest(tmp_path / "m.jsonl")


def test_the_duration_comes_from_the_header(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(8_000, 1.5), 8_000)
    assert seconds_of(tmp_path / "a.wav") == 1.5
    (tmp_path / "b.wav").write_bytes(b"text")
    for name in ("b.wav", "c.wav"):
        with pytest.raises(AudioError, match=f"cannot read audio .*{name}"):
            seconds_of(tmp_path / name)


def test_batches_are_sorted_without_rng_and_shuffled_with_it():
    seconds = [3.0, 1.0, 2.0, 1.5]
    assert list(batches(seconds, 4.0)) == [[1, 3], [2], [0]]
    rngs = [np.random.default_rng(seed) for seed in (0, 0, 1, 2, 3)]
    first, again, *others = [list(batches(seconds, 4.0, rng)) for rng in rngs]
    assert first == again
    assert any(other != first for other in others)
    assert list(batches([], 4.0)) == []
