import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluators.costs import params
from search_spaces import Budget, InfeasibleError, NasError
from supernet.training.recipe import StageRecipe, TrainSettings, budgeted_subnets, parse_teacher_layers
from tests.supernet.training.helpers import RECIPE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "l3"}, "loss must be one of mse, l1"),
        ({"in_place": 2.0}, "in_place must be in 0..1"),
        ({"ema": 1.0}, "ema in 0..1"),
        ({"in_place": 0.5, "sampler": "uniform"}, "in_place needs the largest subnet"),
    ],
)
def test_recipes_that_cannot_be_followed(changes, message):
    with pytest.raises(NasError, match=message):
        dataclasses.replace(RECIPE, **changes)


def test_unknown_settings_are_refused():
    for bad in ({"sampler": "all"}, {"precision": "fp8"}, {"steps": 0}, {"stage": 3}):
        with pytest.raises(NasError):
            dataclasses.replace(RECIPE, **bad)


def settings(**changes):
    return TrainSettings(teacher=Path("teacher"), audio=Path("manifest.jsonl"), out=Path("out"), **changes)


def test_the_command_line_and_python_have_the_same_defaults():
    """The measured ones of docs/log.md."""
    first, second = settings().recipes()
    assert first == StageRecipe(stage=1, steps=2600)
    assert second == StageRecipe(stage=2, steps=1700, learning_rate=6e-4)
    assert (first.batch_seconds, first.mask_prob, first.mask_from, first.learning_rate) == (20.0, 0.2, 0.6, 1e-3)


def test_every_setting_of_both_reaches_the_recipes():
    values = {
        "batch_seconds": 5.0, "mask_prob": 0.5, "mask_from": 0.25, "loss": "l1", "in_place": 0.5, "ema": 0.9,
        "precision": "fp32", "seed": 7, "disturb": 0.25, "voice": 2.0, "optimiser": "muon", "layer_weights": (2.0, 1.0),
    }  # fmt: skip
    first, second = settings(
        **values, stage1_steps=3, stage2_steps=4, learning_rate=0.5, stage2_learning_rate=0.25
    ).recipes()
    for recipe in (first, second):
        assert {name: getattr(recipe, name) for name in values} == values
    assert [(r.stage, r.steps, r.learning_rate) for r in (first, second)] == [(1, 3, 0.5), (2, 4, 0.25)]
    assert settings(sampler="uniform").recipes()[1].sampler == "uniform"


def test_a_trained_supernet_leaves_stage_2_to_do():
    assert [recipe.stage for recipe in settings(init="hubert-tiny").recipes()] == [2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "l3"}, "loss must be one of mse, l1, l1\\+cosine; got 'l3'"),
        ({"optimiser": "sgd"}, "optimiser must be one of adamw, muon; got 'sgd'"),
        ({"sampler": "all"}, "sampler must be one of uniform, sandwich; got 'all'"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, fp16; got 'fp8'"),
        ({"in_place": 0.5, "sampler": "uniform"}, "in_place needs the largest subnet"),
        ({"ema": 1.0}, "ema in 0..1"),
        ({"layer_weights": (0.0, 0.0)}, "--layer-weight: one at least must be over 0"),
        ({"mask_prob": 1.5}, r"mask_prob must be a finite number in 0\.\.1; got 1.5"),
        ({"stage2_steps": 0}, r"stage2_steps must be a finite number in 1\.\.; got 0"),
        ({"teacher_layers": "2+last"}, r"such as 2,4,6 or 2\+4\+6; got '2\+last'"),
    ],
)
def test_settings_are_checked_when_they_are_made(changes, message):
    with pytest.raises(NasError, match=message):
        settings(**changes)


def test_settings_survive_a_file():
    budgets = (Budget("params", 27_000_000), Budget("macs", 1e9))
    paths = {name: Path(f"/made/{name}") for name in ("teacher", "audio", "out")}
    made = dataclasses.replace(settings(budgets=budgets, teacher_layers="2+4,6", minutes=1.5), **paths)
    values = json.loads(json.dumps(made.to_dict()))
    assert values["budgets"] == ["params<=27000000", "macs<=1000000000.0"]
    assert TrainSettings.from_dict(values) == made
    with pytest.raises(NasError, match="unknown cost 'latency_ms' in budget 'latency_ms<=1'; known here: params, macs"):
        TrainSettings.from_dict({**values, "budgets": ["latency_ms<=1"]})


def test_the_teachers_layers_as_text():
    assert parse_teacher_layers(None) is None
    assert parse_teacher_layers("2,4,6") == ((2,), (4,), (6,))
    assert parse_teacher_layers("2+4+6, 7") == ((2, 4, 6), (7,))


def test_budgets_come_with_the_subnets_that_keep_them(small_space):
    costs = {"params": params(small_space)}
    low, high = costs["params"].table.range()
    budgets = (Budget("params", (low + high) // 2), Budget("params", high))
    half, everything = budgeted_subnets(small_space, budgets, costs)
    assert (half.budget, everything.budget) == budgets
    rng, whole = np.random.default_rng(0), costs["params"].table
    for each in (half, everything):
        drawn = [whole.of(subnet) for subnet in each.subnets.sample(rng, 20)]
        assert 0.9 * each.budget.limit <= min(drawn) <= max(drawn) <= each.budget.limit
    (tiny,) = budgeted_subnets(small_space, (Budget("params", low),), costs)
    assert tiny.subnets.count() > 0
    recipe = settings(budgets=budgets).recipes((half, everything))[1]
    assert recipe.budgets == (half, everything)
    assert recipe.to_dict()["budgets"] == (f"params<={(low + high) // 2}", f"params<={high}")
    with pytest.raises(InfeasibleError):
        budgeted_subnets(small_space, [Budget("params", 10)], costs)
    with pytest.raises(NasError, match="unknown cost 'macs' in budget macs<=5; known: params"):
        budgeted_subnets(small_space, [Budget("macs", 5)], costs)


def test_recipes_need_the_subnets_of_each_budget():
    with pytest.raises(NasError, match="settings with 1 budgets need the subnets that keep each of them; got 0 sets"):
        settings(budgets=(Budget("params", 5),)).recipes()


def test_the_learning_rate_warms_up_and_falls_to_2_percent():
    recipe = StageRecipe(stage=1, steps=100, learning_rate=1.0, warmup=0.1)
    assert [recipe.learning_rate_at(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert recipe.learning_rate_at(55) == pytest.approx(0.51)  # half way down: (1 + 0.02) / 2
    assert recipe.learning_rate_at(100) == pytest.approx(0.02)


def test_the_mask_starts_late():
    recipe = StageRecipe(stage=1, steps=10, mask_prob=0.2, mask_from=0.6)
    assert [recipe.mask_prob_at(step) for step in (0, 5, 6, 9)] == [0.0, 0.0, 0.2, 0.2]


def test_recipes_need_no_torch():
    """`nas train --help` shows the settings, and importing torch takes a second."""
    code = "import supernet.training.recipe, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3]).returncode == 0
