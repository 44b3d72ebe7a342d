"""Who speaks when: tones of two pitches that take turns, and overlap."""

import itertools

import numpy as np
import pytest
import soundfile
import torch

from evaluators.tasks import evaluate
from evaluators.tasks.diarization import activity, permutation_free, turns_of
from evaluators.tasks.features import load_upstream
from evaluators.tasks.metrics import diarization_error
from evaluators.tasks.settings import FitSettings
from search_spaces import NasError
from tests.evaluators.tasks.conftest import PITCH, write_manifest
from tests.nas.commands.helpers import nas

TURNS = [(0.0, 0.5, "ann"), (0.3, 1.0, "bob")]


def test_frames_are_active_where_their_middle_is():
    active = activity([(0.3, 1.0, "bob"), (0.0, 0.5, "ann")], 10, 1.0, speakers=3)
    assert active[:, 0].tolist() == [1] * 5 + [0] * 5  # ann, who begins
    assert active[:, 1].tolist() == [0] * 3 + [1] * 7
    assert not active[:, 2].any()
    assert turns_of(active > 0, 1.0) == [(0.0, 0.5, "0"), (0.3, 1.0, "1")]


def test_the_loss_is_that_of_the_best_order_and_padding_is_nothing():
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(2, 7, 3, generator=generator), torch.randint(2, (2, 7, 3), generator=generator).float()
    lengths = torch.tensor([7, 4])
    each = [
        min(
            float(torch.nn.functional.binary_cross_entropy_with_logits(logits[i, :n, list(order)], truth[i, :n]))
            for order in itertools.permutations(range(3))
        )
        for i, n in enumerate(lengths.tolist())
    ]
    assert float(permutation_free(logits, truth, lengths)) == pytest.approx(np.mean(each), rel=1e-6)


def test_the_error_rate_is_missed_false_and_confused_speech_over_speech():
    pytest.importorskip("pyannote.metrics")
    said = [(0.0, 0.5, "x"), (0.5, 1.2, "y")]  # of bob 0.2 s missed, 0.2 s too much
    found = diarization_error([TURNS, TURNS], [[said, TURNS]], [2.0, 2.0])
    assert found["der"]["value"] == pytest.approx(0.4 / 2.4, abs=1e-5)
    assert found["of_which"] == pytest.approx({"missed": 0.2 / 2.4, "false": 0.2 / 2.4, "confusion": 0.0}, abs=1e-5)


def test_turns_of_two_tones_are_found(exported, tmp_path):
    pytest.importorskip("pyannote.metrics")
    rng, rows, rate = np.random.default_rng(0), [], 16_000
    for i in range(30):
        first, second = rng.permutation(list(PITCH))[:2].tolist()
        turns = [[0.0, rng.uniform(0.4, 0.7), first], [rng.uniform(0.3, 0.6), 1.0, second]]
        samples = 0.01 * rng.normal(size=rate)
        for start, end, name in turns:
            time = np.arange(int(start * rate), int(end * rate))
            samples[time] += 0.3 * np.sin(2 * np.pi * PITCH[name] * time / rate)
        soundfile.write(tmp_path / f"{i}.wav", samples.astype(np.float32), rate)
        split = "train" if i < 20 else "dev" if i < 24 else "test"
        rows.append({"id": str(i), "audio": f"{i}.wav", "seconds": 1.0, "split": split, "turns": turns})
    manifest, settings = write_manifest(tmp_path / "m.jsonl", rows), FitSettings((1e-2,), 1, 40, 8)
    found = evaluate(load_upstream(exported), "diarization", manifest, settings, hidden=32)
    assert found["data"]["speakers"] == 2
    assert found["data"]["head"] == "LSTM of 32"
    assert 0 <= found["results"]["der"]["value"] < 0.4
    assert sum(found["results"]["of_which"].values()) == pytest.approx(found["results"]["der"]["value"], abs=1e-4)
    words = ("--model", exported, "--task", "diarization", "--manifest", manifest, "--seeds", 1, "--epochs", 1)
    done = nas("eval", *words, "--hidden", 8)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("der ")
    assert "of which missed" in done.stdout


def test_it_is_no_task_to_fine_tune_on(exported, manifest, tmp_path):
    from evaluators.tasks.finetune import finetune

    with pytest.raises(NasError, match="fine-tune on speaker instead of diarization"):
        finetune(exported, "diarization", manifest, tmp_path / "o")
