"""LightHuBERT's two-stage distillation: the mask, the losses, and the subnets that a step trains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces import Feasible, Space, Subnet

__all__ = ["distillation_loss", "span_mask", "step_subnets"]


def span_mask(
    rng: np.random.Generator, lengths: Sequence[int], frames: int, prob: float, span: int = 10
) -> npt.NDArray[np.bool_]:
    """(B, T), True for masked frames: random spans that cover about `prob` of each utterance if none overlap.

    As in wav2vec 2.0: prob * T / span starts, rounded up or down at random, drawn without replacement.
    """
    mask = np.zeros((len(lengths), frames), dtype=bool)
    for row, length in zip(mask, lengths, strict=True):
        starts = min(int(prob * length / span + rng.random()), max(length - span, 0))
        for start in rng.choice(max(length - span, 1), starts, replace=False) if starts else ():
            row[start : start + span] = True
    return mask


def step_subnets(
    space: Space, sampler: str, rng: np.random.Generator, subsets: Sequence[Feasible] = ()
) -> list[Subnet]:
    """The subnets that one step of stage 2 trains: "uniform" (LightHuBERT) one at random, or the sandwich (BigNAS).

    The sandwich is the largest subnet, the smallest, and one at random. Each choice of the random subnet is uniform.
    With `subsets`, it comes from one of them, chosen at random: first a combination of width and depth that occurs in
    it, then a subnet of that combination, both uniformly. A smallest subnet that lacks halves of layers hears nothing;
    instead of it, one is drawn from the first of the `subsets`, or at random.
    """
    if subsets:
        (drawn,) = subsets[int(rng.integers(len(subsets)))].sample(rng, 1, balanced=True)
    else:
        drawn = space.sample(rng)
    if sampler == "uniform":
        return [drawn]
    smallest = space.smallest
    if not all((*smallest.heads, *smallest.ffn_dims)):
        (smallest,) = subsets[0].sample(rng, 1, balanced=True) if subsets else (space.sample(rng),)
    return [space.largest, smallest, drawn]


def distillation_loss(
    predictions: list[Tensor], targets: Tensor, mask: Tensor | None, form: str = "mse", voice: float = 0.0
) -> Tensor:
    """The loss of each head against its standardised target, a mean over speech frames: (K,).

    `targets` (B, T, K, dim) have variance 1, so predicting their mean gives a squared error of 1.0.
    `form`: "mse", "l1", or "l1+cosine", which adds -log sigmoid(cosine) as DistilHuBERT does (its equation 1).
    `voice`: how much more the mean error of each recording counts, which is small beside that of its frames and holds
    who speaks.
    """
    losses = []
    size = torch.abs if form != "mse" else torch.square
    for k, prediction in enumerate(predictions):
        guess, truth = prediction.float(), targets[:, :, k]
        difference = guess - truth
        error = size(difference).mean(-1)
        if form == "l1+cosine":
            error = error - F.logsigmoid(F.cosine_similarity(guess, truth, dim=-1))
        if voice:
            error = error + voice * size(_recording_means(difference, mask)).mean(-1)[:, None]
        losses.append(error.mean() if mask is None else error[mask].mean())
    return torch.stack(losses)


def _recording_means(values: Tensor, mask: Tensor | None) -> Tensor:
    """(B, dim): means of values (B, T, dim) over the frames in mask (B, T)."""
    if mask is None:
        return values.mean(1)
    return (values * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
