"""Fine-tuning learns, resumes to the bit, and leaves a subnet that everything else can read."""

import json

import pytest
import torch

from evaluators.tasks.features import load_upstream
from evaluators.tasks.finetune import _Problem, finetune
from evaluators.tasks.settings import FinetuneSettings
from search_spaces import NasError, RunError
from supernet import load_extracted, save_extracted

QUICK = FinetuneSettings(steps=30, learning_rate=1e-3, batch_seconds=1.0, validate_every=10, checkpoint_every=5)


def test_a_subnet_learns_speakers(exported, manifest, tmp_path):
    found = finetune(exported, "speaker", manifest, tmp_path / "out", QUICK)
    assert found["results"]["accuracy"]["value"] > 0.8
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["dev_error"] < 0.2
    assert load_upstream(tmp_path / "out").dim == load_extracted(exported).subnet.embed_dim
    before, after = load_extracted(exported), load_extracted(tmp_path / "out")
    for name, value in before.state_dict().items():
        same = torch.equal(value, after.state_dict()[name])
        assert same == name.startswith("front_end") or "k.bias" in name  # keys' bias does nothing to attention


def test_letters_are_learned(exported, manifest, tmp_path):
    found = finetune(exported, "asr", manifest, tmp_path / "out", QUICK)
    assert set(found["results"]) == {"cer", "wer"}
    assert found["outputs"] == [" ", "d", "g", "h", "i", "l", "m", "o", "w"]


def test_a_stopped_run_goes_on_to_the_same_weights(exported, manifest, tmp_path):
    once, twice = tmp_path / "once", tmp_path / "twice"
    finetune(exported, "speaker", manifest, once, QUICK)
    for _ in range(100):
        if finetune(exported, "speaker", manifest, twice, QUICK, stop_after=0.05) is not None:
            break
    a, b = load_extracted(once).state_dict(), load_extracted(twice).state_dict()
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert (once / "log.jsonl").read_text() == (twice / "log.jsonl").read_text()
    with pytest.raises(RunError, match="was started with steps=30, now steps=1000"):
        finetune(exported, "speaker", manifest, once)


def test_out_of_memory_halves_the_batch(exported, manifest, tmp_path, monkeypatch):
    loss, said = _Problem.loss, []

    def small(self, model, rows):
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, model, rows)

    monkeypatch.setattr(_Problem, "loss", small)
    assert finetune(exported, "speaker", manifest, tmp_path / "out", QUICK, log=said.append) is not None
    assert said[0] == "out of memory with batches of 3: continuing with 2 at a time"


def test_what_cannot_be_tuned_says_why(exported, manifest, tmp_path):
    with pytest.raises(NasError, match="fine-tune on speaker instead of verification"):
        finetune(exported, "verification", manifest, tmp_path / "out")
    with pytest.raises(NasError, match="learning rate above 0"):
        FinetuneSettings(learning_rate=0)
    _break(exported, tmp_path / "broken")
    with pytest.raises(NasError, match="loss is nan; recordings: "):
        finetune(tmp_path / "broken", "speaker", manifest, tmp_path / "out", QUICK)


def _break(exported, folder):
    """A copy whose first layer overflows: finite weights, NaN outputs."""
    net = load_extracted(exported)
    with torch.no_grad():
        net.encoder.layers[0].fc1.weight.fill_(3e38)
        net.encoder.layers[0].fc2.weight.fill_(3e38)
    save_extracted(net, folder)
