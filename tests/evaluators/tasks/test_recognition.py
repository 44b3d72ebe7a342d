"""Transcription by a whole model, against transformers' own generate and jiwer."""

import json

import jiwer
import numpy as np
import pytest
import soundfile
import torch

from evaluators.tasks.recognition import Recogniser, compared, recognition
from search_spaces import AudioError, CheckpointError, NasError
from supernet.audio import load_audio, read_manifest
from supernet.export import export_subnet
from supernet.order import convert
from tests.supernet.families import saved_whole_whisper

WINDOW = 2.0  # what the small model hears


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder, rng, lines = tmp_path_factory.mktemp("speech"), np.random.default_rng(0), []
    for i in range(9):
        samples = (0.2 * rng.normal(size=int(rng.integers(6_000, 20_000)))).astype(np.float32)
        soundfile.write(folder / f"{i}.wav", samples, 16_000)
        text = ["one two", "three", "longer one"][i % 3] if i < 8 else None
        line = {"id": str(i), "audio": f"{i}.wav", "seconds": len(samples) / 16_000, "split": "test", "text": text}
        lines.append(json.dumps(line | ({"language": "es"} if i % 2 else {})))
    (folder / "m.jsonl").write_text("\n".join(lines))
    return folder / "m.jsonl"


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    theirs = saved_whole_whisper(folder / "theirs")
    return theirs, convert(str(folder / "theirs"), folder / "ours"), folder


@torch.no_grad()
def test_what_is_heard_is_what_transformers_generates(whisper, manifest):
    import transformers

    theirs, _, folder = whisper
    record = recognition(Recogniser.of(folder / "ours"), manifest, window=WINDOW)
    assert [row["id"] for row in record["utterances"]] == [str(i) for i in range(8)]  # those with a text
    extractor = transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "theirs")
    for utterance, row in zip(read_manifest(manifest), record["utterances"], strict=False):
        mel = extractor(load_audio(utterance.audio), sampling_rate=16_000, return_tensors="pt").input_features
        tokens = theirs.generate(input_features=mel, max_new_tokens=13, do_sample=False, num_beams=1)
        assert row["heard"] == tokenizer.decode(tokens[0], skip_special_tokens=True)
        labels = torch.tensor([[49, *tokenizer(f" {utterance.text}", add_special_tokens=False).input_ids, 2]])
        inputs = torch.cat([torch.tensor([[3]]), labels[:, :-1]], 1)
        log_probs = theirs(input_features=mel, decoder_input_ids=inputs).logits.log_softmax(-1)[0, 1:]
        nats = -log_probs.gather(1, labels[0, 1:, None]).sum()
        assert row["nats"] == pytest.approx(float(nats), rel=1e-3)
        assert row["tokens"] == labels.shape[1] - 1


def test_rates_are_jiwers_and_intervals_hold_them(whisper, manifest):
    _, _, folder = whisper
    record = recognition(Recogniser.of(folder / "ours"), manifest, window=WINDOW)
    rows = record["utterances"]
    truth, heard = [row["text"] for row in rows], [" ".join(row["heard"].lower().split()) for row in rows]
    assert record["results"]["wer"]["value"] == pytest.approx(jiwer.wer(truth, heard), abs=1e-5)
    assert record["results"]["cer"]["value"] == pytest.approx(jiwer.cer(truth, heard), abs=1e-5)
    nats, tokens = (sum(row[name] for row in rows) for name in ("nats", "tokens"))
    assert record["results"]["ce"]["value"] == pytest.approx(nats / tokens, rel=1e-3)
    assert record["results"]["ce"]["low"] < nats / tokens < record["results"]["ce"]["high"]
    assert set(record["groups"]) == {"es, up to 4 s", "up to 4 s"}
    assert sum(group["recordings"] for group in record["groups"].values()) == len(rows)
    json.dumps(record)


def test_a_subnet_is_heard_alike_from_the_supernet_and_from_its_export(whisper, manifest, tmp_path):
    _, model, folder = whisper
    subnet = model.space.sample(np.random.default_rng(1))
    export_subnet(model, subnet, tmp_path / "out", ["hf"], {})
    ours = recognition(Recogniser.of(folder / "ours", subnet), manifest, window=WINDOW)
    exported = recognition(Recogniser.of(tmp_path / "out"), manifest, window=WINDOW)
    for a, b in zip(ours["utterances"], exported["utterances"], strict=True):
        assert (a["id"], a["heard"]) == (b["id"], b["heard"])
        assert a["nats"] == pytest.approx(b["nats"], rel=1e-4)
    whole = recognition(Recogniser.of(folder / "ours"), manifest, window=WINDOW)
    few = recognition(Recogniser.of(folder / "ours"), manifest, window=WINDOW, recordings=2)
    assert few["utterances"] == [whole["utterances"][0], whole["utterances"][len(whole["utterances"]) // 2]]
    difference = compared(ours, whole)
    expected = ours["results"]["ce"]["value"] - whole["results"]["ce"]["value"]
    assert difference["results"]["ce"]["value"] == pytest.approx(expected, abs=2e-5)
    assert set(difference["groups"]) == set(ours["groups"])
    with pytest.raises(NasError, match="is one exported subnet"):
        Recogniser.of(tmp_path / "out", subnet)
    with pytest.raises(CheckpointError, match="not of the same recordings"):
        compared(ours, {**whole, "utterances": whole["utterances"][1:]})
    (tmp_path / "out" / "hf" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot load"):
        Recogniser.of(tmp_path / "out")


def test_what_cannot_be_transcribed_is_said(whisper, manifest, tmp_path):
    _, _, folder = whisper
    with pytest.raises(NasError, match="has no decoder"):
        Recogniser.of("hubert-tiny")
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "seconds": 1, "split": "test"}')
    with pytest.raises(AudioError, match="has no texts to compare with"):
        recognition(Recogniser.of(folder / "ours"), tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_text('{"id": "a", "audio": "a.wav", "seconds": 31, "split": "test", "text": "x"}')
    with pytest.raises(AudioError, match="'a' has 31 s, the model hears 2: split it"):
        recognition(Recogniser.of(folder / "ours"), tmp_path / "m.jsonl")
