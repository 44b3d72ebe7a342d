import dataclasses
import json
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch

from search_spaces import AudioError
from supernet.training.batches import load_batch, read_splits, training_batches
from supernet.training.processes import Processes
from tests.supernet.training.helpers import RECIPE, heard


def test_a_manifest_without_speech_for_validation_is_refused(corpus):
    lines = [line for line in corpus.read_text().splitlines() if '"train"' in line]
    only = corpus.with_name("only.jsonl")
    only.write_text("\n".join(lines))
    with pytest.raises(AudioError, match="splits train and dev"):
        read_splits(only)


def test_without_splits_every_20th_utterance_is_held_out(tmp_path):
    lines = [json.dumps({"id": str(i), "audio": f"{i}.flac", "seconds": 1.0}) for i in range(41)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    train, dev = read_splits(tmp_path / "manifest.jsonl")
    assert [u.id for u in dev] == ["0", "20", "40"]
    assert [u.id for u in train] == [str(i) for i in range(41) if i not in (0, 20, 40)]


def test_validation_uses_about_five_minutes(tmp_path):
    lines = [
        json.dumps({"id": str(i), "audio": f"{i}.flac", "seconds": 30.0, "split": "dev" if i < 40 else "train"})
        for i in range(50)
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    train, dev = read_splits(tmp_path / "manifest.jsonl")
    assert [u.id for u in dev] == [str(i) for i in range(0, 40, 4)]
    assert len(train) == 10


def test_a_batch_is_padded_normalised_standardised_and_clipped(data):
    utterances = data.train[:3]
    batch = load_batch(utterances, data.goal, clip=0.5, heard=heard)
    assert batch.ids == tuple(u.id for u in utterances)
    for wav, length, target, utterance in zip(batch.wav, batch.lengths, batch.targets, utterances, strict=True):
        assert wav[:length].mean().item() == pytest.approx(0, abs=1e-4)
        assert wav[:length].std().item() == pytest.approx(1, abs=1e-2)
        assert not wav[length:].any()
        stored = data.goal.cache[utterance.id].astype(np.float32)
        mean, std = data.goal.mean.numpy(), data.goal.std.numpy()
        np.testing.assert_allclose(target[: len(stored)], np.clip((stored - mean) / std, -0.5, 0.5), rtol=1e-5)
    assert batch.targets.abs().max() == 0.5


def test_standardised_training_targets_have_mean_0_and_variance_1(data):
    frames = np.concatenate([data.goal.cache[u.id] for u in data.train]).astype(np.float32)
    standard = (frames - data.goal.mean.numpy()) / data.goal.std.numpy()
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(standard.std(0), 1, atol=0.02)


def first_batches(data, group, first_step, count):
    with closing(training_batches(data, RECIPE, group, first_step)) as upcoming:
        return list(islice(upcoming, count))


def test_an_epoch_has_every_utterance_once_and_later_steps_can_be_reached_directly(data):
    alone = first_batches(data, Processes(), 0, 20)
    epoch = next(n for n in range(1, 20) if sum(size for size, _ in alone[:n]) == len(data.train))
    assert sorted(i for _, batch in alone[:epoch] for i in batch.ids) == sorted(u.id for u in data.train)
    later = first_batches(data, Processes(), 5, 3)
    assert [batch.ids for _, batch in later] == [batch.ids for _, batch in alone[5:8]]


def test_processes_share_a_batch_and_one_without_a_share_repeats_the_first_utterance(data):
    alone = first_batches(data, Processes(), 0, 1)[0]
    shares = [first_batches(data, Processes(rank, 2), 0, 1)[0] for rank in range(2)]
    assert [size for size, _ in shares] == [alone[0]] * 2
    assert [batch.ids for _, batch in shares] == [alone[1].ids[0::2], alone[1].ids[1::2]]
    idle = first_batches(data, Processes(99, 100), 0, 1)[0]
    assert (idle[0], idle[1].ids) == (alone[0], alone[1].ids[:1])


def test_disturbed_recordings_keep_their_targets_and_are_others_in_each_epoch(data):
    recipe = dataclasses.replace(RECIPE, disturb=1.0)
    with closing(training_batches(data, recipe, Processes(), 0)) as upcoming:
        batches = [batch for _, batch in islice(upcoming, 40)]
    clean = {u.id: load_batch([u], data.goal, recipe.target_clip, heard) for u in data.train}
    seen = {}
    for batch in batches:
        for name, wav, length, targets in zip(batch.ids, batch.wav, batch.lengths, batch.targets, strict=True):
            own = clean[name]
            assert int(length) == int(own.lengths[0])
            assert torch.equal(targets[: own.targets.shape[1]], own.targets[0])
            seen.setdefault(name, []).append(wav[:length])
    several = [waves for waves in seen.values() if len(waves) > 1]
    assert several
    assert all(not torch.equal(waves[0], waves[1]) for waves in several)
    with closing(training_batches(data, recipe, Processes(), 5)) as upcoming:
        assert torch.equal(next(upcoming)[1].wav, batches[5].wav)
