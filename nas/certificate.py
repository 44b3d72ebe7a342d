"""How much better than the best known a subnet that was not evaluated can be, by a score model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nas.score_model import ScoreModel
from search_spaces import Feasible
from search_spaces.types import Array

__all__ = ["Certificate", "certify"]

_DRAWS = 64
_TOP = 0.25
_CONFIDENCE = 0.975


class Certificate(NamedTuple):
    """`expected_best`: the mean score of the best subnet, over draws of the model; `regret`: see `certify`."""

    expected_best: float
    regret: float


def certify(
    feasible: Feasible, model: ScoreModel, worth: Array, rng: np.random.Generator, caution: float = 1.0
) -> Certificate:
    """The most that an unevaluated subnet can be better than the best of `worth` (N,), with 97.5 % confidence.

    Scores are drawn from the posterior of the cautious model (`ScoreModel.cautious`), and each draw is solved exactly
    over all subnets within the budgets. If the model was too sure of itself on the best quarter of the evaluations,
    each predicted from all others (`ScoreModel.surprise`), then the draws are as much further from the mean. What no
    sum over layers explains is added. `caution` above 1 takes the draws further from the mean still.
    """
    model = model.cautious()
    top = np.argsort(-worth, kind="stable")[: max(8, int(_TOP * len(worth)))]
    spread = caution * max(1.0, model.surprise(top))
    draws = [model.draw(rng, spread) for _ in range(_DRAWS)]
    optima = model.warp.back(np.array([float(draw.of(feasible.best(draw))) for draw in draws]))
    regret = max(0.0, float(np.quantile(optima, _CONFIDENCE) - worth.max()))
    return Certificate(float(optima.mean()), regret + 2 * spread * model.noise)
