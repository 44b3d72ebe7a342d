"""A network that is its own teacher: the output it had is what its slices are trained to give."""

import dataclasses
import json

import pytest

from search_spaces import Budget, CheckpointError, NasError, get_space
from supernet import load_supernet
from supernet.audio import read_manifest
from supernet.order import convert
from supernet.training.batches import TrainingData
from supernet.training.distil import train
from supernet.training.goal import OwnOutput
from supernet.training.recipe import TrainSettings, budgeted_subnets
from supernet.training.stage import validate
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
    assert trained.compensated
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
