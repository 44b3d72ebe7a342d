"""Manifests, recordings and batches."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from search_spaces import AudioError
from supernet.audio import Utterance, batches, load_audio, read_manifest, seconds_of
from supernet.preprocessor import Preprocessor


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
    out = Preprocessor()(3 + 5 * tone(16_000))
    assert abs(out.mean()) < 1e-5
    assert out.var() == pytest.approx(1, abs=1e-4)
    assert np.isfinite(Preprocessor()(np.zeros(500, np.float32))).all()


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


HOSTILE = [
    ('{"audio": [1], "seconds": 1}', '"audio" must be the path of a recording; got'),
    ('{"audio": null, "seconds": 1}', '"audio" must be'),
    ('{"audio": "", "seconds": 1}', '"audio" must be'),
    ('{"audio": "a\\u0000b", "seconds": 1}', '"audio" must be'),
    ('{"audio": "a.wav", "seconds": NaN}', '"seconds" must be a number in 0..7200; got nan'),
    ('{"audio": "a.wav", "seconds": Infinity}', '"seconds" must be'),
    ('{"audio": "a.wav", "seconds": -1}', '"seconds" must be'),
    ('{"audio": "a.wav", "seconds": 0}', '"seconds" must be'),
    ('{"audio": "a.wav", "seconds": 1e300}', '"seconds" must be'),
    ('{"audio": "a.wav", "seconds": true}', '"seconds" must be'),
    ('{"audio": "a.wav", "seconds": "one"}', '"seconds" must be'),
    ('{"audio": "a.wav", "seconds": [1]}', '"seconds" must be'),
    ('{"audio": "a.wav", "seconds": 1, "id": {}}', '"id" must be text or a whole number'),
    ('{"audio": "a.wav", "seconds": 1, "speaker": ["a"]}', '"speaker" must be text, a finite number'),
    ('{"audio": "a.wav", "seconds": 1, "emotion": {"a": 1}}', '"emotion" must be'),
    ('{"audio": "a.wav", "seconds": 1, "split": NaN}', '"split" must be'),
    ("[1, 2]", "needs JSON with"),
    ("3", "needs JSON with"),
    ("{" * 5000, "needs JSON with"),
    ("[" * 200_000, "needs JSON with"),
]


@pytest.mark.parametrize(("line", "message"), HOSTILE, ids=[line[:40] for line, _ in HOSTILE])
def test_values_are_checked_once_with_the_number_of_the_line(tmp_path, line, message):
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio": "a.wav", "seconds": 1}\n\n' + line + "\n")
    with pytest.raises(AudioError) as caught:
        read_manifest(manifest)
    assert f"m.jsonl, line 3: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_of_zero_and_false_are_labels(tmp_path):
    values = [0, 0.0, False, "", None, "x"]
    rows = [{"audio": f"{i}.wav", "seconds": 1, "keyword": value} for i, value in enumerate(values)]
    rows.append({"audio": "last.wav", "seconds": 1})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = [utterance.keyword for utterance in read_manifest(tmp_path / "m.jsonl")]
    assert labels == ["0", "0.0", "false", "", None, "x", None]


def test_lines_end_with_line_feeds_alone(tmp_path):
    text = "a\u2028b\u0085c\x0bd\x1ce"
    row = json.dumps({"audio": "a.wav", "seconds": 1, "text": text}, ensure_ascii=False)
    (tmp_path / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + row.encode() + b"\r\n")
    (utterance,) = read_manifest(tmp_path / "m.jsonl")
    assert utterance.text == text


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero"), tmp_path):
        with pytest.raises(AudioError, match="it is not a regular file"):
            read_manifest(path)
        with pytest.raises(AudioError, match="it is not a regular file"):
            load_audio(path)
    with pytest.raises(AudioError, match=r"cannot read manifest .*: No such file"):
        read_manifest(tmp_path / "missing.jsonl")


def test_headers_that_cannot_be_of_speech_are_refused(tmp_path):
    wave = np.zeros(800, dtype=np.float32)
    soundfile.write(tmp_path / "slow.wav", wave, 7)
    with pytest.raises(AudioError, match="has a sample rate of 7 Hz; supported: 1000 to 768000"):
        load_audio(tmp_path / "slow.wav")
    soundfile.write(tmp_path / "long.flac", np.zeros(8_000 * 7_300, dtype=np.int16), 8_000)
    with pytest.raises(AudioError, match="claims 7,300 s in 1 channels; supported: 7200 s in 64: split the recording"):
        load_audio(tmp_path / "long.flac")


def test_no_more_is_read_than_asked_for(tmp_path):
    wave = np.random.default_rng(0).normal(size=48_000).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    assert len(load_audio(tmp_path / "a.wav", max_seconds=1.0)) == 16_000
    assert np.array_equal(load_audio(tmp_path / "a.wav", max_seconds=9.0), load_audio(tmp_path / "a.wav"))
