import numpy as np
import pytest
import torch

from evaluators.costs import params
from search_spaces import Feasible
from supernet.training.losses import distillation_loss, span_mask, step_subnets
from supernet.training.recipe import LOSSES


def test_losses_are_what_their_names_say():
    guess, truth = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[[0.0, 5.0]]]])
    losses = {form: float(distillation_loss([guess], truth, None, form)) for form in LOSSES}
    assert losses["mse"] == pytest.approx((9 + 1) / 2)
    assert losses["l1"] == pytest.approx((3 + 1) / 2)
    cosine = (4 * 5) / (5 * 5)
    assert losses["l1+cosine"] == pytest.approx(2 + np.log(1 + np.exp(-cosine)))


@pytest.mark.parametrize("form", ["mse", "l1"])
def test_the_mean_error_of_each_recording_counts_as_much_more_as_asked(form):
    rng = np.random.default_rng(0)
    guess, truth = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 3))
    frames = (5, 3)  # the second recording is padded
    errors = [(guess - truth)[row, :count] for row, count in enumerate(frames)]
    size = np.abs if form == "l1" else np.square
    each = np.concatenate([size(error).mean(-1) for error in errors]).mean()
    means = sum(count * size(error.mean(0)).mean() for count, error in zip(frames, errors, strict=True)) / sum(frames)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    own = distillation_loss([torch.from_numpy(guess)], torch.from_numpy(truth)[:, :, None], mask, form, voice=7.0)
    assert float(own) == pytest.approx(each + 7 * means, rel=1e-6)


def test_spans_hide_about_as_much_as_asked_and_no_padding():
    rng = np.random.default_rng(0)
    mask = span_mask(rng, [400, 200], 400, prob=0.65)
    assert not mask[1, 200:].any()
    assert 0.35 < mask[0].mean() < 0.65
    assert span_mask(rng, [5], 5, prob=0.65).sum() <= 5


def test_a_sandwich_has_the_largest_the_smallest_and_one_at_random(small_space):
    largest, smallest, drawn = step_subnets(small_space, "sandwich", np.random.default_rng(0))
    assert (largest, smallest) == (small_space.largest, small_space.smallest)
    assert drawn in small_space
    assert len(step_subnets(small_space, "uniform", np.random.default_rng(0))) == 1


def test_the_one_at_random_keeps_one_of_the_budgets(small_space):
    table = params(small_space).table
    low, high = table.range()
    limits = [low + (high - low) // 10, low + (high - low) // 3]
    subsets = [Feasible(small_space, [(table, limit)]) for limit in limits]
    rng = np.random.default_rng(0)
    sizes = [table.of(step_subnets(small_space, "sandwich", rng, subsets)[2]) for _ in range(60)]
    assert max(sizes) <= limits[1]
    assert 20 < sum(size <= limits[0] for size in sizes) < 60
