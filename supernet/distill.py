"""LightHuBERT's two-stage distillation: masking, loss, and which subnets a step trains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces import Space, Subnet
from supernet.model import HubertSupernet

__all__ = ["SAMPLERS", "distillation_loss", "span_mask", "step_subnets"]

SAMPLERS = ("uniform", "sandwich")


def span_mask(
    rng: np.random.Generator, lengths: Sequence[int], frames: int, prob: float, span: int = 10
) -> npt.NDArray[np.bool_]:
    """(B, T), True where a frame is hidden: random spans covering about `prob` of each utterance before overlaps.

    As wav2vec 2.0 does it: prob * T / span starts, rounded at random, drawn without replacement.
    """
    mask = np.zeros((len(lengths), frames), dtype=bool)
    for row, length in zip(mask, lengths, strict=True):
        starts = min(int(prob * length / span + rng.random()), max(length - span, 0))
        for start in rng.choice(max(length - span, 1), starts, replace=False) if starts else ():
            row[start : start + span] = True
    return mask


def step_subnets(space: Space, sampler: str, rng: np.random.Generator) -> list[Subnet]:
    """The subnets one step of stage 2 trains: one drawn at random (LightHuBERT), or the sandwich (BigNAS)."""
    if sampler == "uniform":
        return [space.sample(rng)]
    return [space.largest, space.smallest, space.sample(rng)]


def distillation_loss(model: HubertSupernet, predictions: list[Tensor], targets: Tensor, mask: Tensor | None) -> Tensor:
    """Mean squared error of each head against its standardised target, over speech frames: (K,).

    `targets` (B, T, K, dim) have mean 0 and variance 1, so 1.0 means that nothing is known.
    """
    losses = []
    for k, prediction in enumerate(predictions):
        error = (prediction.float() - targets[:, :, k]).square().mean(-1)
        losses.append(error.mean() if mask is None else error[mask].mean())
    return torch.stack(losses)
