"""Closed-form linear probes: what frozen features know about a label of the whole utterance."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pooled", "ridge_probe"]


def pooled(hidden_states: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """One vector for an utterance: the mean over time of each hidden state (T, D), joined."""
    return torch.cat([state.double().mean(0) for state in hidden_states])


def ridge_probe(train_x: Tensor, train_y: list[str], test_x: Tensor, test_y: list[str]) -> float:
    """Accuracy (0..1) of ridge regression on one-hot labels, fitted on the train utterances (N, D).

    Features are standardised on the train set; the penalty is the best of a fixed grid by leave-one-out error on
    the train set, in closed form (Allen's PRESS). Test labels that are unknown in train count as wrong.
    """
    labels = sorted(set(train_y))
    target = torch.tensor([[float(label == y) for label in labels] for y in train_y], dtype=torch.float64)
    mean, std = train_x.mean(0), train_x.std(0) + 1e-6
    x, test = (train_x - mean) / std, (test_x - mean) / std
    centre = target.mean(0)
    y = target - centre
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    projected = u.T @ y
    best, weights = float("inf"), torch.zeros(0)
    for penalty in (1e0, 1e1, 1e2, 1e3, 1e4):
        shrink = s**2 / (s**2 + penalty)
        leverage = (u**2 @ shrink) + 1 / len(x)
        press = float((((y - u @ (shrink[:, None] * projected)) / (1 - leverage).clamp(min=1e-6)[:, None]) ** 2).mean())
        if press < best:
            best, weights = press, vt.T @ ((s / (s**2 + penalty))[:, None] * projected)
    guesses: list[int] = (test @ weights + centre).argmax(1).tolist()
    right = [labels[guess] == truth for guess, truth in zip(guesses, test_y, strict=True)]
    return sum(right) / len(right)
