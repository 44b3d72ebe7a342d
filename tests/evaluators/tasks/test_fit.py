"""Heads learn, depend on their seed alone, and say what goes wrong."""

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.tasks.fit import Backward, fit, fit_seeds
from evaluators.tasks.settings import FitSettings
from search_spaces import NasError


class Line:
    """y = 2 x, from 16 points."""

    def __init__(self, most=None):
        self.x = torch.linspace(-1, 1, 16)[:, None]
        self.most = most

    def head(self):
        return nn.Linear(1, 1)

    def plan(self, rng, batch):
        return [rows.tolist() for rows in np.array_split(rng.permutation(16), 16 // batch)]

    def ids(self, rows):
        return [f"point{row}" for row in rows]

    def loss(self, head, rows):
        if self.most is not None and len(rows) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        x = self.x[list(rows)]
        return (head(x) - 2 * x).square().mean()

    def dev(self, head):
        return -float((head(self.x) - 2 * self.x).square().mean())


def test_heads_learn_and_depend_on_the_seed_alone():
    settings = FitSettings((1e-4, 0.1), seeds=2, epochs=40, batch=8)
    heads, about = fit_seeds(Line(), settings)
    assert about["learning_rate"] == 0.1
    assert len(heads) == 2
    assert heads[0].weight.item() == pytest.approx(2, abs=0.05)
    again, _ = fit(Line(), 0.1, 1, settings, print)
    assert torch.equal(again.weight, heads[1].weight)


def test_the_best_epoch_on_dev_is_kept():
    class Worse(Line):
        scores = iter([1.0, 3.0, 2.0])

        def dev(self, head):
            self.seen = [*getattr(self, "seen", []), head.weight.item()]
            return next(self.scores)

    problem = Worse()
    head, best = fit(problem, 0.1, 0, FitSettings((0.1,), 1, epochs=3, batch=16), print)
    assert best == 3.0
    assert head.weight.item() == problem.seen[1]


def test_the_rate_rises_and_falls_to_nothing():
    class Still(Line):
        def dev(self, head):
            self.seen = [*getattr(self, "seen", []), head.weight.item()]
            return 0.0

    problem = Still()
    fit(problem, 0.01, 0, FitSettings((0.01,), 1, epochs=50, batch=16), print)
    steps = np.abs(np.diff(problem.seen))
    assert steps[0] < steps[5]
    assert steps[-1] < steps[5] / 20


def test_out_of_memory_halves_the_batch_and_says_so():
    said, rows = [], list(range(16))
    whole, parts = nn.Linear(1, 1), nn.Linear(1, 1)
    parts.load_state_dict(whole.state_dict())
    loss = Backward(Line())(whole, rows)
    backward = Backward(Line(most=5), said.append)
    assert backward(parts, rows) == pytest.approx(loss)
    assert said == [
        "out of memory with batches of 16: continuing with 8 at a time",
        "out of memory with batches of 8: continuing with 4 at a time",
    ]
    assert torch.allclose(parts.weight.grad, whole.weight.grad)
    backward(parts, rows)
    assert len(said) == 2
    with pytest.raises(NasError, match=r"out of memory even for one recording \(point0\)"):
        Backward(Line(most=0))(parts, rows)


def test_a_loss_that_is_not_finite_names_the_recordings():
    problem = Line()
    problem.x[3] = torch.nan
    with pytest.raises(NasError, match="loss is nan; recordings: point2, point3"):
        Backward(problem)(nn.Linear(1, 1), [2, 3])


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    class Broken(Line):
        def loss(self, head, rows):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Backward(Broken())(nn.Linear(1, 1), [0, 1])
