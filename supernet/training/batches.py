"""Recordings and their targets, in batches: planned from a seed, read ahead by a thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from supernet.audio import Utterance, batches, load_audio, normalise
from supernet.teacher import TargetCache
from supernet.training.recipe import StageRecipe

__all__ = ["Batch", "TrainingSpeech", "batch_plan", "prefetched"]


@dataclass(frozen=True)
class Batch:
    """Padded waveforms (B, S), their lengths, standardised targets (B, T, K, dim), and the ids of the utterances."""

    wav: Tensor
    lengths: Tensor
    targets: Tensor
    ids: tuple[str, ...]


@dataclass(frozen=True)
class TrainingSpeech:
    """Training and validation utterances, the cache of their targets, and the targets' mean and deviation (K, dim)."""

    train: Sequence[Utterance]
    dev: Sequence[Utterance]
    cache: TargetCache
    statistics: tuple[Tensor, Tensor]

    def batch(self, utterances: Sequence[Utterance], clip: float) -> Batch:
        """Reads recordings and cached targets; waveforms are normalised, targets standardised and clipped."""
        mean, std = self.statistics
        waves = [torch.from_numpy(normalise(load_audio(utterance.audio))) for utterance in utterances]
        targets = [torch.from_numpy(self.cache[utterance.id].astype(np.float32)) for utterance in utterances]
        padded = pad_sequence(targets, batch_first=True)
        return Batch(
            pad_sequence(waves, batch_first=True),
            torch.tensor([len(wave) for wave in waves]),
            ((padded - mean) / std).clamp_(-clip, clip),
            tuple(utterance.id for utterance in utterances),
        )


def batch_plan(seconds: Sequence[float], recipe: StageRecipe) -> Iterator[list[int]]:
    """Batches of indices for step 0, 1, 2, ...: epoch after epoch, without end."""
    epoch = 0
    while True:
        yield from batches(seconds, recipe.batch_seconds, np.random.default_rng([recipe.seed, recipe.stage, epoch]))
        epoch += 1


def prefetched(
    plan: Iterator[list[int]], load: Callable[[list[int]], Batch], ahead: int = 3
) -> Generator[tuple[list[int], Batch], None, None]:
    """Batches in order, with their indices, read by one thread while earlier steps run."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [(rows, pool.submit(load, rows)) for rows in islice(plan, ahead)]
        while True:
            rows, batch = waiting.pop(0)
            yield rows, batch.result()
            waiting += [(rows, pool.submit(load, rows)) for rows in islice(plan, 1)]
