"""Which of many candidates to evaluate first, before anything about them is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces.types import Array

__all__ = ["most_uncertain"]


def most_uncertain(x: Array, count: int, first: Sequence[int] = (), noise: float = 0.0) -> list[int]:
    """`count` rows of x (N, J): those in `first`, then each the one that a linear model is most uncertain of.

    Uncertain, that is, after the rows before it: a pivoted Cholesky factorisation of the prior covariance x @ x.T.
    `noise`: variance of an evaluation.
    """
    variance, rows, chosen = (x**2).sum(1), np.zeros((0, len(x))), list[int]()
    for step in range(count):
        chosen.append(first[step] if step < len(first) else int(variance.argmax()))
        pivot = np.sqrt(max(variance[chosen[-1]] + noise, 1e-12))
        row = (x @ x[chosen[-1]] - rows.T @ rows[:, chosen[-1]]) / pivot
        rows = np.vstack([rows, row])
        variance = variance - row**2
        variance[chosen] = -np.inf
    return chosen
