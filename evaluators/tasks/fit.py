"""Training small heads: the best epoch and the learning rate are chosen on dev, with several seeds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from evaluators.tasks.problem import Loss, Problem
from evaluators.tasks.settings import FitSettings
from search_spaces import NasError
from search_spaces.types import JsonObject
from supernet.training.recipe import rate_at

__all__ = ["Backward", "fit", "fit_seeds", "out_of_memory"]

Log = Callable[[str], None]


def fit_seeds(
    problem: Problem, settings: FitSettings, log: Log = lambda message: None
) -> tuple[list[nn.Module], JsonObject]:
    """One head for each seed, and how they came about."""
    tried = {rate: fit(problem, rate, 0, settings, log) for rate in settings.learning_rates}
    chosen = max(tried, key=lambda rate: tried[rate][1])
    heads = [tried[chosen][0], *(fit(problem, chosen, seed, settings, log)[0] for seed in range(1, settings.seeds))]
    dev = {f"{rate:g}": round(score, 5) for rate, (_, score) in tried.items()}
    return heads, {"learning_rate": chosen, "dev_by_learning_rate": dev, "seeds": settings.seeds}


def fit(problem: Problem, learning_rate: float, seed: int, settings: FitSettings, log: Log) -> tuple[nn.Module, float]:
    """The head after its best epoch on dev, and dev's figure then. Depends on `seed` alone."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = problem.head()
    optimiser = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=1e-4)
    backward = Backward(problem, log)
    best, weights = -math.inf, copy.deepcopy(head.state_dict())
    for epoch in range(settings.epochs):
        head.train()
        plan = problem.plan(rng, settings.batch)
        for step, rows in enumerate(plan, epoch * len(plan)):
            optimiser.param_groups[0]["lr"] = learning_rate * rate_at(step, settings.epochs * len(plan))
            optimiser.zero_grad(set_to_none=True)
            backward(head, rows)
            torch.nn.utils.clip_grad_norm_(head.parameters(), 5.0)
            optimiser.step()
        head.eval()
        with torch.no_grad():
            score = problem.dev(head)
        if score > best:
            best, weights = score, copy.deepcopy(head.state_dict())
    head.load_state_dict(weights)
    return head.eval(), best


class Backward:
    """Gradients of a batch's mean loss. On out-of-memory, halves the batch for the rest of the run and logs a warning.

    Raises `NasError` naming the recordings if the loss is not finite, or if one alone does not fit.
    """

    def __init__(self, problem: Loss, log: Log = lambda message: None) -> None:
        self.problem, self.log = problem, log
        self.most: int | None = None

    def __call__(self, head: nn.Module, rows: Sequence[int]) -> float:
        """The loss, after its gradients were added to the head's."""
        while True:
            size = min(self.most or len(rows), len(rows))
            try:
                return sum(
                    self._part(head, rows[start : start + size], len(rows)) for start in range(0, len(rows), size)
                )
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            if size == 1:
                raise NasError(
                    f"out of memory even for one recording ({', '.join(self.problem.ids(rows[:1]))}): use a smaller "
                    f"head or model, or shorter recordings"
                )
            self.most = -(-size // 2)
            head.zero_grad(set_to_none=True)
            self.log(f"out of memory with batches of {size}: continuing with {self.most} at a time")

    def _part(self, head: nn.Module, rows: Sequence[int], of: int) -> float:
        loss = self.problem.loss(head, rows)
        if not torch.isfinite(loss):
            raise NasError(f"loss is {loss.item()}; recordings: {', '.join(self.problem.ids(rows))}")
        share = loss * (len(rows) / of)
        share.backward()  # type: ignore[no-untyped-call]
        return float(share.detach())


def out_of_memory(error: BaseException) -> bool:
    """CUDA has an error of its own for it; the CPU's allocator only words."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)
