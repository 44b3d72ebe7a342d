import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from search_spaces import Budget, Feasible
from supernet.training.batches import load_batch
from supernet.training.losses import span_mask
from supernet.training.processes import Processes
from supernet.training.recipe import BudgetedSubnets
from supernet.training.step import Learner, _own_mask, _subnets, optimiser_of, train_step
from tests.supernet.training.helpers import RECIPE, fresh, heard


def learner(model, recipe, group=Processes()):  # noqa: B008
    return dataclasses.replace(Learner.of(model, recipe, optimiser_of(model, recipe), Processes(), "cpu"), group=group)


def test_weights_decay_and_biases_norms_and_the_mask_embedding_do_not(small_space):
    model = fresh(small_space)
    decayed, plain = optimiser_of(model, dataclasses.replace(RECIPE, weight_decay=0.25)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.25, 0.0)
    ids = {id(value): name for name, value in model.named_parameters()}
    assert all("weight" in name for name in (ids[id(value)] for value in decayed["params"]))
    names = {ids[id(value)] for value in plain["params"]}
    assert "mask_embedding" in names
    assert {name for name in ids.values() if name.endswith("bias")} <= names
    assert len(decayed["params"]) + len(plain["params"]) == len(ids)


def test_a_step_of_stage_1_is_one_of_adamw_on_the_largest_subnet(small_space, data):
    """Against torch's own loop: forward, mean squared error of one utterance, clip, AdamW."""
    recipe = dataclasses.replace(RECIPE, stage=1, layer_weights=(1.0, 2.0, 5.0))
    batch = load_batch(data.train[:1], data.goal, recipe.target_clip, heard)
    model, plain = fresh(small_space), fresh(small_space)
    record = train_step(model, recipe, optimiser_of(model, recipe), 0, batch, "cpu")
    optimiser = optimiser_of(plain, dataclasses.replace(recipe, learning_rate=recipe.learning_rate_at(0)))
    predictions = plain.predict(plain(batch.wav).hidden_states)
    truth = batch.targets[:, : predictions[0].shape[1]]
    losses = [F.mse_loss(guess, truth[:, :, k]) for k, guess in enumerate(predictions)]
    loss = (1 * losses[0] + 2 * losses[1] + 5 * losses[2]) / 8
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), recipe.clip_norm)
    optimiser.step()
    assert record["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert record["layers"] == pytest.approx([value.item() for value in losses], abs=1e-4)
    assert record["grad_norm"] == pytest.approx(norm.item(), abs=1e-4)
    assert record["audio_seconds"] == round(len(batch.wav[0]) / 16_000, 1)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_stage_1_trains_the_largest_subnet_and_stage_2_those_of_the_budgets(small_space):
    rng = np.random.default_rng(0)
    first = learner(fresh(small_space), dataclasses.replace(RECIPE, stage=1))
    assert _subnets(first, rng) == [small_space.largest]

    class Smallest(Feasible):
        def sample(self, rng, n=1, balanced=False):
            return [small_space.smallest]

    budgets = (BudgetedSubnets(Budget("params", 5), Smallest(small_space)),)
    second = learner(fresh(small_space), dataclasses.replace(RECIPE, budgets=budgets))
    assert _subnets(second, rng) == [small_space.largest, small_space.smallest, small_space.smallest]


def test_processes_take_their_rows_of_one_mask(small_space):
    lengths = [16_000, 12_000, 9_000]
    model = fresh(small_space)
    frames = [small_space.network.frames(length) for length in lengths]
    whole = span_mask(np.random.default_rng(1), frames, max(frames), 0.5)
    assert whole.any()
    for rank, rows in ((0, [0, 2]), (1, [1])):
        own = _own_mask(learner(model, RECIPE, Processes(rank, 2)), 0.5, np.random.default_rng(1), lengths)
        np.testing.assert_array_equal(own.numpy(), whole[rows])
    idle = _own_mask(learner(model, RECIPE, Processes(3, 4)), 0.5, np.random.default_rng(1), lengths)
    np.testing.assert_array_equal(idle.numpy(), whole[:1])
    assert _own_mask(learner(model, RECIPE), 0.0, np.random.default_rng(1), lengths) is None


def test_half_precision_rounds_the_loss_only_a_little(small_space, data):
    batch = load_batch(data.train[:2], data.goal, RECIPE.target_clip, heard)
    losses = {}
    for precision in ("fp32", "bf16"):
        model, recipe = fresh(small_space), dataclasses.replace(RECIPE, precision=precision)
        losses[precision] = train_step(model, recipe, optimiser_of(model, recipe), 0, batch, "cpu")["loss"]
        assert all(value.dtype == torch.float32 for value in model.parameters())
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
