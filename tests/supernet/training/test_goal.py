"""A network that is its own teacher: the output it had is what its slices are trained to give."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from search_spaces import AudioError, Budget, CheckpointError, NasError, get_space
from supernet import load_supernet
from supernet.audio import read_manifest
from supernet.decoder import TextDecoder
from supernet.model import WINDOWS
from supernet.order import convert
from supernet.training.batches import TrainingData, load_batch
from supernet.training.distil import train
from supernet.training.goal import OwnOutput
from supernet.training.recipe import TrainSettings, budgeted_subnets
from supernet.training.stage import validate
from supernet.training.step import Comparison, optimiser_of, train_step
from tests.supernet.families import add_tokenizer, saved
from tests.supernet.training.helpers import RECIPE


@pytest.fixture(scope="module", params=["whisper", "wav2vec2-base"])
def converted(request, tmp_path_factory, corpus):
    folder = tmp_path_factory.mktemp(request.param)
    saved(request.param, folder / "theirs")
    if request.param == "whisper":
        add_tokenizer(folder / "theirs")
    convert(str(folder / "theirs"), folder / "ours", audio=corpus)
    return folder / "ours"


def settings(converted, corpus, out, **others):
    values = {
        "init": str(converted), "audio": str(corpus), "out": str(out), "stage2_steps": 60, "batch_seconds": 3,
        "stage2_learning_rate": 5e-5, "precision": "fp32", "budgets": ("params<=60%",),
    }  # fmt: skip
    return TrainSettings.from_dict({**values, **others})


def costs(space):
    from evaluators.costs import params

    return {"params": params(space)}


def test_before_training_the_largest_subnet_is_the_goal(converted, corpus):
    model = load_supernet(converted)
    dev = read_manifest(corpus, "dev")
    goal = OwnOutput.of(model, read_manifest(corpus, "train"))
    found = validate(model, TrainingData((), dev, goal, model.heard), RECIPE)["dev"]
    assert found["largest"] == [pytest.approx(0, abs=1e-6)]
    assert found["middle"][0] > 1e-3
    assert goal.std.shape == (model.space.network.width,)


def test_training_brings_slices_nearer_to_the_original(converted, corpus, tmp_path):
    folder = train(settings(converted, corpus, tmp_path), costs)
    records = [json.loads(line) for line in (tmp_path / "stage2" / "log.jsonl").read_text().splitlines()]
    (dev,) = (record["dev"] for record in records if "dev" in record)
    assert list(dev) == ["params<=60%", "largest"]
    model, trained = load_supernet(converted), load_supernet(folder)
    goal = OwnOutput.of(model, read_manifest(corpus, "train"))
    data = TrainingData((), read_manifest(corpus, "dev"), goal, model.heard)
    budgets = budgeted_subnets(model.space, (Budget.parse("params<=60%"),), costs(model.space))
    recipe = dataclasses.replace(RECIPE, budgets=budgets)
    before, after = (validate(each, data, recipe)["dev"]["params<=60%"][0] for each in (model, trained))
    assert after < before
    assert trained.compensation == "regression"
    assert trained.provenance["teacher"] == "its own largest subnet before training"
    assert (trained.source is None) is (model.source is None)


def test_a_stopped_training_goes_on_to_the_bit(converted, corpus, tmp_path):
    once = train(settings(converted, corpus, tmp_path / "once"), costs)
    assert train(settings(converted, corpus, tmp_path / "twice", minutes=0.0), costs) is None
    again = train(settings(converted, corpus, tmp_path / "twice"), costs)
    assert load_supernet(once).fingerprint() == load_supernet(again).fingerprint()


def test_the_best_rate_of_a_short_sweep_is_used(converted, corpus, tmp_path):
    swept = settings(converted, corpus, tmp_path, stage2_steps=2, rates=(5e-5, 1.0), sweep_steps=3)
    folder = train(swept, costs)
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert (found["best"], set(found["distances"])) == (5e-5, {"5e-05", "1"})
    assert load_supernet(folder).provenance["recipes"][-1]["learning_rate"] == 5e-5
    assert len((tmp_path / "stage2" / "log.jsonl").read_text().splitlines()) == 3
    assert train(swept, costs) == folder


@pytest.fixture
def texts(corpus):
    """The corpus with texts, but for the recordings whose number has a 3."""
    lines = [json.loads(line) for line in corpus.read_text().splitlines()]
    file = corpus.with_name("texts.jsonl")
    file.write_text("\n".join(json.dumps({**u, "text": None if "3" in u["id"] else "ab" + u["id"]}) for u in lines))
    return file


@pytest.mark.parametrize("converted", ["whisper"], indirect=True)
def test_what_the_decoder_makes_of_the_output_is_the_same_one_by_one(converted, texts):
    model, rng = load_supernet(converted), np.random.default_rng(0)
    utterances = read_manifest(texts, "train")[:5]
    goal = OwnOutput.of(model, utterances, decoded=True)
    batch = load_batch(utterances, goal, 4.0, model.heard, [0.0, 2.0, 0.0, 0.0, 0.0])
    assert batch.tokens.shape == (5, 7)
    assert batch.wav.shape[1] == 32_000  # the model's longest window
    decoder, subnet = TextDecoder.of(model), model.space.sample(rng)
    with torch.no_grad():
        compared = Comparison.of(model, goal, batch, batch.wav)
        found = compared.nats(compared.predictions(subnet)[0])
        assert compared.nats(compared.predictions(model.space.largest)[0])[0].abs().max() < 1e-5
        for i, utterance in enumerate(utterances):
            whole = model(batch.wav[i : i + 1]).last_hidden_state
            with model.active(subnet):
                own = model(batch.wav[i : i + 1]).last_hidden_state
            if utterance.text is None:
                assert (int(compared.counts[i]), found[:, i].tolist()) == (0, [0.0, 0.0])
                continue
            tokens = decoder.tokens(utterance.text, None)
            whole, own = decoder(whole, tokens)[0], decoder(own, tokens)[0]
            assert int(compared.counts[i]) == len(own)
            assert float(found[0, i]) == pytest.approx(float((whole.exp() * (whole - own)).sum()), rel=1e-3, abs=1e-5)
            assert float(found[1, i]) == pytest.approx(-float(own.gather(1, tokens[0, 2:, None]).sum()), rel=1e-4)


@pytest.mark.parametrize("converted", ["whisper"], indirect=True)
def test_the_decoder_teaches_where_it_is_asked_to(converted, texts, tmp_path):
    utterances = read_manifest(texts, "train")[:5]
    nats = {}
    for weights in ({}, {"kl": 300.0}, {"ce": 30.0}):
        model = load_supernet(converted)
        goal = OwnOutput.of(model, utterances, decoded=True)
        batch = load_batch(utterances, goal, 4.0, model.heard)
        model.use_space(model.space.only(model.space.sample(np.random.default_rng(1))))
        recipe = dataclasses.replace(RECIPE, stage=1, steps=12, learning_rate=1e-3, mask_prob=0.0, **weights)
        optimiser = optimiser_of(model, recipe)
        for step in range(recipe.steps if weights else 0):
            train_step(model, recipe, optimiser, step, batch, "cpu", goal)
        with torch.no_grad():
            compared = Comparison.of(model, goal, batch, batch.wav)
            nats[next(iter(weights), "")] = compared.nats(compared.predictions(model.space.largest)[0]).sum(1).tolist()
    assert nats["kl"][0] < 0.7 * nats[""][0]
    assert nats["ce"][1] < nats["kl"][1]


def test_the_log_has_the_divergence(converted, texts, tmp_path):
    if load_supernet(converted).source is None:
        with pytest.raises(NasError, match="has no decoder"):
            train(settings(converted, texts, tmp_path, ce=1.0), costs)
        return
    assert train(settings(converted, texts, tmp_path, kl=1.0, ce=0.5, stage2_steps=2), costs) is not None
    record = json.loads((tmp_path / "stage2" / "log.jsonl").read_text().splitlines()[-1])
    assert record["kl"].keys() == record["dev"].keys() == {"params<=60%", "largest"}


def test_without_texts_a_decoder_teaches_nothing(converted, corpus, tmp_path):
    with pytest.raises(AudioError, match="no text of a recording of up to 10 s"):
        train(settings(converted, corpus, tmp_path, kl=1.0), costs)


@pytest.mark.parametrize("converted", ["whisper"], indirect=True)
def test_one_recording_in_three_is_heard_in_a_long_window(converted):
    model = load_supernet(converted)
    network = dataclasses.replace(model.space.network, max_frames=1500)
    assert [network.heard_samples(24_000, window) for window in WINDOWS] == [48_000, 48_000, 240_000]
    assert network.heard_samples(478_000) == 480_000
    assert get_space("hubert-tiny").network.heard_samples(24_000, 15.0) == 24_000


def test_who_has_no_teacher_is_told(corpus, tmp_path):
    with pytest.raises(NasError, match="--teacher is missing"):
        TrainSettings.from_dict({"audio": str(corpus), "out": str(tmp_path)})
    with pytest.raises(CheckpointError, match="needs the teacher that they predict"):
        train(settings("hubert-tiny", corpus, tmp_path, budgets=()))


def test_narrower_outputs_cannot_be_compared(converted, corpus, tmp_path):
    model = load_supernet(converted)
    space = dataclasses.replace(model.space, embed_dims=(8, model.space.network.width))
    model.use_space(space)
    with pytest.raises(NasError, match="is trained at its network's width"):
        OwnOutput.of(model, read_manifest(corpus, "train"))
    assert get_space("hubert-tiny").name == "hubert-tiny"
