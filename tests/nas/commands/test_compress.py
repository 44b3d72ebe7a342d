"""`nas compress`: from a model to smaller ones, resumable, with bad words in one line."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from nas.commands.compress import CompressSettings, _Work
from supernet import load_supernet
from tests.nas.commands.helpers import nas
from tests.supernet.families import saved, saved_whole_whisper

FAST = ("--train-steps", "3", "--specialise-steps", "2", "--evals", "6", "--batch-seconds", "4")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    saved_whole_whisper(folder)
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder, rng, lines = tmp_path_factory.mktemp("speech"), np.random.default_rng(0), []
    for i in range(24):
        samples = (0.2 * rng.normal(size=int(rng.integers(6_000, 14_000)))).astype(np.float32)
        soundfile.write(folder / f"{i}.wav", samples, 16_000)
        split = "train" if i < 10 else "dev" if i < 20 else "test"
        line = {"id": str(i), "audio": f"{i}.wav", "seconds": len(samples) / 16_000, "split": split}
        lines.append(json.dumps({**line, "text": ["one", "two"][i % 2], "language": "en"}))
    (folder / "m.jsonl").write_text("\n".join(lines))
    return folder / "m.jsonl"


def run(*arguments):
    return nas("compress", *arguments)


def test_a_model_becomes_smaller_ones_and_a_second_run_does_nothing_again(whisper, manifest, tmp_path):
    out = tmp_path / "small"
    arguments = (
        whisper,
        "--audio",
        manifest,
        "--out",
        out,
        "--budget",
        "params<=60%",
        "--budget",
        "params<=85%",
        *FAST,
    )
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "note: all speech is in the language en" in done.stderr
    record = json.loads((out / "results.json").read_text())
    assert [each["budget"] for each in record["budgets"]] == ["params<=60%", "params<=85%"]
    for each, limit in zip(record["budgets"], (0.6, 0.85), strict=True):
        rows = {row["name"]: row for row in each["rows"]}
        assert list(rows) == ["original", "best uniform", "winner", "specialised"]
        assert each["score"] == "kl"
        assert rows["winner"]["params"] <= limit * rows["original"]["params"]
        assert rows["winner"]["id"] == rows["specialised"]["id"]
        assert 0 < rows["specialised"]["dev"] <= rows["winner"]["dev"]
        assert {"wer", "cer", "ce"} <= set(rows["specialised"]["over_original"])
    exported = out / "params-60pct" / "exported"
    assert (exported / "hf" / "config.json").is_file()
    special = load_supernet(out / "params-60pct" / "specialised" / "supernet")
    assert special.space.size == 1
    assert special.source is not None
    assert "specialised" in special.provenance
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.name != "results.json"}
    again = run(*arguments)
    assert again.returncode == 0, again.stderr
    assert {file: file.stat().st_mtime_ns for file in before} == before
    other = run(*arguments[:-1], "5")
    assert other.returncode == 2
    assert "was started with batch_seconds=4" in other.stderr


def test_a_model_without_decoder_is_compressed_by_its_output(manifest, tmp_path):
    saved("xls-r", tmp_path / "model")
    arguments = (tmp_path / "model", "--audio", manifest, "--out", tmp_path / "out", "--budget", "macs<=80%", *FAST)
    done = run(*arguments, "--formats", "json")
    assert done.returncode == 0, done.stderr
    (each,) = json.loads((tmp_path / "out" / "results.json").read_text())["budgets"]
    assert each["score"] == "distillation"
    assert all("results" not in row for row in each["rows"])


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "compress needs a budget"),
        (("--budget", "params<=1"), 3, "params<=1"),
        (("--budget", "params<=50%", "--score", "taste"), 2, "a score is distillation"),
        (("--budget", "params<=50%", "--teacher", "."), 2, "--teacher has no effect"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(whisper, manifest, tmp_path, arguments, status, said):
    done = run(whisper, "--audio", manifest, "--out", tmp_path / "out", *FAST, *arguments)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "train").exists()


def test_kl_needs_texts(whisper, manifest, tmp_path):
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    bare = [{**line, "text": None, "audio": str(manifest.parent / line["audio"])} for line in lines]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, bare)))
    arguments = ("--audio", tmp_path / "m.jsonl", "--out", tmp_path / "out", "--budget", "params<=60%", "--score", "kl")
    done = run(whisper, *arguments, *FAST)
    assert done.returncode == 2
    assert "the score kl needs texts" in done.stderr


def test_too_little_memory_halves_the_batch_for_good(manifest, tmp_path):
    settings = CompressSettings.from_dict({"audio": str(manifest), "budgets": ("params<=60%",), "batch_seconds": 8})
    work, tried = _Work("model", tmp_path / "out", settings), []
    (tmp_path / "out" / "plan.json").write_text('{"batch_seconds": 8, "score": "kl"}')

    def train(batch):
        tried.append(batch)
        if batch > 2:
            raise MemoryError

    work._halving(train)
    _Work("model", tmp_path / "out", settings)._halving(train)
    assert tried == [8, 4, 2, 2]
    assert json.loads((tmp_path / "out" / "plan.json").read_text()) == {"batch_seconds": 2, "score": "kl"}


def test_stopped_at_each_stage_it_goes_on_and_ends_alike(whisper, manifest, tmp_path, monkeypatch):
    values = {"audio": str(manifest), "budgets": ("params<=60%",), "train_steps": 2, "specialise_steps": 2, "evals": 6}
    settings = CompressSettings.from_dict({**values, "batch_seconds": 4, "formats": "json"})
    stage, begun = _Work._stage, []

    @contextmanager
    def stopped(self, name):
        with stage(self, name):
            if name not in begun:
                begun.append(name)
                raise KeyboardInterrupt
            yield

    monkeypatch.setattr(_Work, "_stage", stopped)
    for _ in range(12):
        try:
            record = _Work(str(whisper), tmp_path / "stopped", settings).done()
            break
        except KeyboardInterrupt:
            continue
    assert [name.split(":")[0].split(",")[0] for name in begun] == [
        "convert", "train", "search", "specialise", "export", "measure and evaluate",
    ]  # fmt: skip
    monkeypatch.setattr(_Work, "_stage", stage)
    once = _Work(str(whisper), tmp_path / "once", settings).done()
    assert record["budgets"] == once["budgets"]
