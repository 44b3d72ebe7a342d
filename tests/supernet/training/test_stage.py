import dataclasses
import json

import pytest
import torch

from search_spaces import Budget, Feasible, NasError, RunError
from supernet.training.batches import load_batch
from supernet.training.context import RunContext
from supernet.training.recipe import BudgetedSubnets
from supernet.training.stage import _move_mean, _trim_log, train_stage, validate
from tests.supernet.training.helpers import RECIPE, fresh, heard


@pytest.mark.parametrize("changes", [{}, {"loss": "l1+cosine", "in_place": 0.5, "ema": 0.9}])
def test_killed_and_resumed_is_bit_for_bit_not_killed(small_space, data, tmp_path, changes):
    whole, pieces = fresh(small_space), fresh(small_space)
    recipe = dataclasses.replace(RECIPE, **changes)
    assert train_stage(whole, recipe, data, tmp_path / "whole")
    done = False
    for _ in range(20):
        if done:
            break
        pieces = fresh(small_space)  # as a new process would
        done = train_stage(pieces, recipe, data, tmp_path / "pieces", RunContext(stop_after=0))
    assert done
    for (name, a), b in zip(whole.state_dict().items(), pieces.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    untimed = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log.read_text().splitlines()]
        for log in (tmp_path / "whole" / "log.jsonl", tmp_path / "pieces" / "log.jsonl")
    ]
    assert untimed[0] == untimed[1]


def test_a_running_mean_of_the_weights_moves_slower_than_they_do():
    value, mean = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(mean.weight)
    torch.nn.init.ones_(value.weight)
    _move_mean(mean, value, dataclasses.replace(RECIPE, ema=0.9), step=1000)
    assert mean.weight.item() == pytest.approx(0.1)
    _move_mean(mean, value, dataclasses.replace(RECIPE, ema=0.999), step=10)  # of the last few only
    assert mean.weight.item() == pytest.approx(0.1 + 0.5 * 0.9)


def test_the_largest_subnets_predictions_can_be_targets(small_space, data, tmp_path):
    losses = {}
    for share in (0.0, 1.0):
        recipe = dataclasses.replace(RECIPE, steps=1, in_place=share)
        train_stage(fresh(small_space), recipe, data, tmp_path / str(share))
        losses[share] = json.loads((tmp_path / str(share) / "log.jsonl").read_text().splitlines()[0])["loss"]
    assert losses[1.0] < 0.7 * losses[0.0]  # untrained subnets are nearer to each other than to the teacher


def test_training_brings_every_subnet_nearer_to_the_teacher(small_space, data, tmp_path):
    model = fresh(small_space)
    recipe = dataclasses.replace(RECIPE, steps=60, learning_rate=3e-3, mask_prob=0.0, validate_every=60)
    everything = dataclasses.replace(data, dev=data.train)
    before = validate(model, everything, recipe)["dev"]
    assert train_stage(model, recipe, data, tmp_path / "out")
    after = validate(model, everything, recipe)["dev"]
    for subnet in ("smallest", "middle", "largest"):
        assert sum(after[subnet]) < sum(before[subnet])


def test_other_settings_do_not_go_on_with_a_checkpoint(small_space, data, tmp_path):
    train_stage(fresh(small_space), RECIPE, data, tmp_path, RunContext(stop_after=0))
    with pytest.raises(RunError, match="started with seed=0, now seed=5"):
        train_stage(fresh(small_space), dataclasses.replace(RECIPE, seed=5), data, tmp_path)
    (tmp_path / "state.pt").write_bytes(b"torn")
    with pytest.raises(RunError, match="cannot read checkpoint"):
        train_stage(fresh(small_space), RECIPE, data, tmp_path)


def test_a_loss_that_is_not_finite_names_the_recordings(small_space, data, tmp_path):
    model = fresh(small_space)
    with torch.no_grad():
        model.heads[0].weight.fill_(float("nan"))
    with pytest.raises(NasError, match="loss is nan at step 0 of stage 2; recordings: "):
        train_stage(model, RECIPE, data, tmp_path)


def test_training_goes_on_with_smaller_batches(small_space, data, tmp_path):
    recipe = dataclasses.replace(RECIPE, steps=2)
    assert not train_stage(fresh(small_space), recipe, data, tmp_path, RunContext(stop_after=0))
    smaller = dataclasses.replace(recipe, batch_seconds=recipe.batch_seconds / 2)
    assert train_stage(fresh(small_space), smaller, data, tmp_path)
    first, second = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()[:2])
    assert second["audio_seconds"] <= smaller.batch_seconds < first["audio_seconds"]


def test_training_within_budgets_is_another_recipe(small_space, data, tmp_path):
    budgets = (BudgetedSubnets(Budget("params", 1_000_000), Feasible(small_space)),)
    recipe = dataclasses.replace(RECIPE, steps=1, budgets=budgets)
    assert train_stage(fresh(small_space), recipe, data, tmp_path)
    with pytest.raises(RunError, match=r"was started with budgets=\('params<=1000000',\), now budgets=\(\)"):
        train_stage(fresh(small_space), dataclasses.replace(RECIPE, steps=1), data, tmp_path)


def test_checkpoints_that_lack_later_settings_are_resumed(small_space, data, tmp_path):
    """As they were before loss, in_place, ema, budgets, kl and ce could be set."""
    recipe = dataclasses.replace(RECIPE, steps=2)
    train_stage(fresh(small_space), recipe, data, tmp_path, RunContext(stop_after=0))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["recipe"] == {**dataclasses.asdict(recipe), "budgets": ()}
    for key in ("loss", "in_place", "ema", "budgets", "kl", "ce"):
        del state["recipe"][key]
    torch.save(state, tmp_path / "state.pt")
    assert train_stage(fresh(small_space), recipe, data, tmp_path)
    with pytest.raises(RunError, match="was started with loss=mse, now loss=l1"):
        train_stage(fresh(small_space), dataclasses.replace(recipe, loss="l1"), data, tmp_path)


def test_the_log_keeps_no_steps_that_the_checkpoint_lacks(tmp_path):
    log = tmp_path / "log.jsonl"
    records = [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.9}, {"step": 2, "dev": {}}, {"step": 2, "loss": 0.8}]
    log.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"step": 3, "lo')
    _trim_log(log, 3)
    assert [json.loads(line) for line in log.read_text().splitlines()] == records
    _trim_log(log, 2)
    assert [json.loads(line) for line in log.read_text().splitlines()] == records[:3]
    _trim_log(log, 1)
    assert [json.loads(line) for line in log.read_text().splitlines()] == records[:1]
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]


def test_progress_gets_the_records_of_the_log(small_space, data, tmp_path):
    records = []
    recipe = dataclasses.replace(RECIPE, steps=2, validate_every=1)
    train_stage(fresh(small_space), recipe, data, tmp_path, RunContext(progress=records.append))
    assert records == [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(record["step"], "dev" in record) for record in records] == [(0, False), (1, True), (1, False), (2, True)]


def test_validation_is_the_mean_squared_error_over_all_frames(small_space, data):
    """Compared with one utterance at a time, which needs no padding and no mask."""
    model, expected, frames = fresh(small_space), 0.0, 0
    for utterance in data.dev:
        batch = load_batch([utterance], data.goal, RECIPE.target_clip, heard)
        with torch.no_grad(), model.eval().active(small_space.smallest):
            predictions = torch.stack(model.predict(model(batch.wav).hidden_states), 2)
        error = (predictions - batch.targets[:, : predictions.shape[1]]).square().mean(-1)
        expected, frames = expected + error.sum((0, 1)), frames + error.shape[1]
    recipe = dataclasses.replace(RECIPE, batch_seconds=0.1)  # one utterance in each batch
    assert model.train().training
    result = validate(model, data, recipe)["dev"]
    assert model.training
    assert result["smallest"] == pytest.approx((expected / frames).tolist(), abs=2e-5)
