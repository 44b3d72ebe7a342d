"""A scale on which scores are nearer to a sum over layers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from search_spaces.types import Array

__all__ = ["Warp"]

_FURTHEST = 20.0  # warped, in widths: half a billion widths below the best, where no score is, only a bad prediction


class Warp(NamedTuple):
    """Scores, the more compressed the further they are below `best`; above it and near it, they stay as they are.

    t = best - width log(1 + (best - score) / width)

    What a layer lacks costs the more, the more the other layers lack, and then a sum over layers fits the logarithm of
    the loss, not the loss. A warp without a width changes nothing.
    """

    best: float = 0.0
    width: float = np.inf

    def __call__(self, scores: Array) -> Array:
        below = np.maximum(self.best - scores, 0.0)
        return scores if np.isinf(self.width) else scores + below - self.width * np.log1p(below / self.width)

    def back(self, values: Array) -> Array:
        """The scores of warped values."""
        below = np.maximum(self.best - values, 0.0)
        far = np.expm1(np.minimum(below / self.width, _FURTHEST))
        return values if np.isinf(self.width) else values + below - self.width * far

    def log_slope(self, scores: Array) -> float:
        """The sum of log dt / dscore: what the likelihood of a model of warped scores gains over that of scores."""
        below = np.maximum(self.best - scores, 0.0)
        return 0.0 if np.isinf(self.width) else -float(np.log1p(below / self.width).sum())
