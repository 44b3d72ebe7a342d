import dataclasses
import itertools
import signal
import subprocess
import time

import numpy as np
import pytest
import torch

from evaluators import scores
from evaluators.costs import params
from search_spaces import Budget, CheckpointError, InfeasibleError, NasError
from supernet import load_supernet
from supernet.teacher import load_teacher
from supernet.training.distil import calibration_speech, distil, train, untrained
from supernet.training.recipe import StageRecipe, TrainSettings, budgeted_subnets
from tests.nas.commands.helpers import NAS, nas
from tests.supernet.training.helpers import RECIPE, fresh, space_toml


def test_both_stages_make_a_supernet_that_brings_its_calibration(small_space, corpus, teacher_folder, tmp_path):
    from evaluators.scores import distillation
    from supernet import load_supernet

    recipes = [dataclasses.replace(RECIPE, stage=stage, steps=2) for stage in (1, 2)]
    finished = distil(small_space, load_teacher(teacher_folder), corpus, tmp_path, recipes)
    model = load_supernet(finished)
    assert model.space == small_space
    assert model.provenance["teacher"] == "hubert"
    subnets = [small_space.smallest, small_space.largest]
    scores = distillation(model)(subnets)
    assert scores == distillation(load_supernet(finished))(subnets)
    assert all(np.isfinite(scores))
    again = distil(small_space, load_teacher(teacher_folder), corpus, tmp_path, recipes)
    assert again == finished


def test_a_supernet_of_one_averaged_target_is_scored_by_its_teacher(small_space, corpus, teacher_folder, tmp_path):
    teacher = load_teacher(teacher_folder, layers=[(1, 2, 3)])
    model = load_supernet(distil(small_space, teacher, corpus, tmp_path, [dataclasses.replace(RECIPE, stage=1)]))
    assert (model.head_layers, model.provenance["teacher_layers"]) == ((12,), [[1, 2, 3]])
    score = scores.distillation(model, audio=corpus, teacher=teacher_folder)
    assert all(np.isfinite(score([small_space.largest, small_space.smallest])))


def test_training_goes_on_from_a_trained_supernet(small_space, corpus, teacher_folder, tmp_path):
    teacher = load_teacher(teacher_folder)
    first = distil(small_space, teacher, corpus, tmp_path / "a", [dataclasses.replace(RECIPE, stage=1)])
    again = RECIPE
    second = load_supernet(distil(small_space, teacher, corpus, tmp_path / "b", [again], start=load_supernet(first)))
    assert [recipe["stage"] for recipe in second.provenance["recipes"]] == [1, 2]
    assert not (tmp_path / "b" / "stage1").exists()
    wider = dataclasses.replace(small_space, embed_dims=small_space.embed_dims[:1])
    with pytest.raises(CheckpointError, match="continues in the supernet's own space"):
        distil(wider, teacher, corpus, tmp_path / "c", [again], start=load_supernet(first))


@pytest.mark.slow
def test_kill_9_in_the_middle_of_training_loses_nothing(small_space, corpus, teacher_folder, tmp_path):
    (tmp_path / "space.toml").write_text(space_toml(small_space))
    command = [
        "train", "--teacher", str(teacher_folder), "--audio", str(corpus),
        "--space", str(tmp_path / "space.toml"), "--stage1-steps", "100", "--stage2-steps", "1", "--batch-seconds", "3",
        "--precision", "fp32",
    ]  # fmt: skip
    assert nas(*command, "--out", tmp_path / "whole").returncode == 0
    log = tmp_path / "killed" / "stage1" / "log.jsonl"
    with subprocess.Popen([*NAS, *command, "--out", tmp_path / "killed"], stderr=subprocess.DEVNULL) as process:
        for _ in itertools.count():
            if process.poll() is not None or (log.exists() and log.read_text().count("\n") > 10):
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert nas(*command, "--out", tmp_path / "killed").returncode == 0
    weights = [(tmp_path / run / "supernet" / "model.safetensors").read_bytes() for run in ("whole", "killed")]
    assert weights[0] == weights[1]


def test_train_is_what_its_settings_describe(small_space, corpus, teacher_folder, tmp_path):
    """The settings as text and numbers, and the same training in Python."""
    (tmp_path / "space.toml").write_text(space_toml(small_space))
    table = params(small_space).table
    limit = sum(table.range()) // 2
    settings = TrainSettings(
        corpus,
        tmp_path / "a",
        teacher_folder,
        space=str(tmp_path / "space.toml"),
        stage1_steps=2,
        stage2_steps=2,
        batch_seconds=3.0,
        budgets=(Budget("params", limit),),
        teacher_layers="1+2,3",
        precision="fp32",
        targets=tmp_path / "targets",
    )
    reports = []
    finished = train(settings, lambda space: {"params": params(space)}, reports.append)
    assert finished == tmp_path / "a" / "supernet"
    budgets = budgeted_subnets(small_space, settings.budgets, {"params": params(small_space)})
    shared = {"steps": 2, "batch_seconds": 3.0, "precision": "fp32"}
    recipes = [
        StageRecipe(stage=1, **shared),
        StageRecipe(stage=2, learning_rate=6e-4, budgets=budgets, **shared),
    ]
    teacher = load_teacher(teacher_folder, layers=((1, 2), (3,)))
    again = distil(small_space, teacher, corpus, tmp_path / "b", recipes, targets=tmp_path / "targets")
    for name in ("config.json", "model.safetensors", "calibration.safetensors"):
        assert (finished / name).read_bytes() == (again / name).read_bytes()
    provenance = load_supernet(finished).provenance
    assert [recipe["budgets"] for recipe in provenance["recipes"]] == [[], [f"params<={limit}"]]
    assert not (tmp_path / "a" / "targets").exists()
    assert {record["targets"] for record in reports if "targets" in record} == {"dev", "train"}
    assert [record["stage"] for record in reports if "stage" in record] == [1, 2]


def test_train_continues_from_init_and_stops_in_time(small_space, corpus, teacher_folder, tmp_path):
    recipes = [dataclasses.replace(RECIPE, stage=1, steps=1)]
    first = distil(small_space, load_teacher(teacher_folder), corpus, tmp_path / "a", recipes)
    settings = TrainSettings(
        corpus, tmp_path / "b", teacher_folder, init=str(first), stage2_steps=2, batch_seconds=3.0, precision="fp32"
    )
    assert train(dataclasses.replace(settings, minutes=0.0)) is None
    assert (tmp_path / "b" / "stage2" / "state.pt").exists()
    model = load_supernet(train(settings))
    assert model.space == small_space
    assert [recipe["stage"] for recipe in model.provenance["recipes"]] == [1, 2]


def test_each_target_has_a_weight(corpus, teacher_folder, tmp_path):
    settings = TrainSettings(corpus, tmp_path / "out", teacher_folder, teacher_layers="1,3", layer_weights=(1.0,))
    with pytest.raises(NasError, match="2 targets need as many --layer-weight; got 1"):
        train(settings)


def test_budgets_are_checked_before_the_teacher_is_loaded(corpus, tmp_path):
    settings = TrainSettings(corpus, tmp_path / "out", tmp_path / "none", budgets=(Budget("params", 1000),))
    with pytest.raises(InfeasibleError, match="params<=1"):
        train(settings, lambda space: {"params": params(space)})
    with pytest.raises(NasError, match="unknown cost 'params' in budget params<=1000; known: none"):
        train(settings)
    with pytest.raises(CheckpointError, match=r"needs config\.json"):
        train(dataclasses.replace(settings, budgets=()))
    assert not (tmp_path / "out").exists()


def test_calibration_speech_is_evenly_chosen_and_long_enough(small_space, data):
    model = fresh(small_space)
    total = sum(utterance.seconds for utterance in data.dev)
    speech = calibration_speech(model, data.dev, data.goal, seconds=total / 2)
    seconds = sum(len(features) for features in speech.features) * 320 / 16_000
    assert total / 2 - 0.2 < seconds < total / 2 + 1
    assert [len(f) for f in speech.features] == [len(t) for t in speech.targets]
    everything = calibration_speech(model, data.dev, data.goal, seconds=10 * total)
    assert len(everything.features) == len(data.dev)


def test_untrained_weights_depend_on_the_seed_alone(small_space):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (untrained(small_space, (12,), 8, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
