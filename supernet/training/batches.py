"""Speech for training: the manifest's splits, and batches with the teacher's standardised targets, read ahead."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from search_spaces import AudioError
from supernet.audio import RATE, Utterance, batches, load_audio, read_manifest
from supernet.training.disturb import disturbed
from supernet.training.goal import Goal, HeadTargets
from supernet.training.processes import Processes
from supernet.training.recipe import StageRecipe

__all__ = ["Batch", "TrainingData", "load_batch", "read_splits", "training_batches"]

Hearing = Callable[[npt.NDArray[np.float32], float], Tensor]
_Rows = list[tuple[int, float, int]]  # of the utterances, the window that each is heard in, and the epoch
_DEV_SECONDS = 300  # validation uses about as much


@dataclass(frozen=True)
class TrainingData:
    """Utterances to train on and to validate on, what is predicted, and how the student hears samples (S,).

    `heard` takes the samples and the least seconds to hear, silence included.
    """

    train: Sequence[Utterance]
    dev: Sequence[Utterance]
    goal: Goal
    heard: Hearing


@dataclass(frozen=True)
class Batch:
    """Padded waveforms (B, S), their lengths (B,), the utterances' ids, and the standardised targets (B, T, K, dim).

    Without targets the network's own output is the goal, which is computed from the waveforms; `tokens` (B, L) are
    those of the texts, if a decoder is to read it.
    """

    wav: Tensor
    lengths: Tensor
    ids: tuple[str, ...]
    targets: Tensor | None
    tokens: Tensor | None = None


def load_batch(
    utterances: Sequence[Utterance],
    goal: Goal,
    clip: float,
    heard: Hearing,
    windows: Sequence[float] | None = None,
    disturb: Callable[[int, npt.NDArray[np.float32]], npt.NDArray[np.float32]] = lambda i, wave: wave,
) -> Batch:
    """Reads recordings and their cached targets; standardises and clips targets.

    Longer recordings than the goal allows are cut at a place that depends on their id alone. `windows`: the least
    seconds to hear of each. `disturb`: what is heard of the i-th instead; targets stay.
    """
    recorded = [_cut(load_audio(utterance.audio), utterance.id, goal.max_seconds) for utterance in utterances]
    waves = [disturb(i, wave) for i, wave in enumerate(recorded)]
    pairs = zip(waves, windows or [0.0] * len(waves), strict=True)
    wav = pad_sequence([heard(wave, window) for wave, window in pairs], batch_first=True)
    lengths, ids = torch.tensor([len(wave) for wave in recorded]), tuple(utterance.id for utterance in utterances)
    if not isinstance(goal, HeadTargets):
        return Batch(wav, lengths, ids, None, goal.tokens(utterances))
    states = [torch.from_numpy(goal.cache[utterance.id].astype(np.float32)) for utterance in utterances]
    targets = (pad_sequence(states, batch_first=True) - goal.mean) / goal.std
    return Batch(wav, lengths, ids, targets.clamp_(-clip, clip))


def _cut(wave: npt.NDArray[np.float32], name: str, seconds: float | None) -> npt.NDArray[np.float32]:
    longest = len(wave) if seconds is None else round(seconds * RATE)
    if len(wave) <= longest:
        return wave
    start = zlib.crc32(name.encode()) % (len(wave) - longest)
    return wave[start : start + longest]


def read_splits(manifest: Path) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances for training and validation: the manifest's splits, or every 20th held out if it has none.

    Validation gets every n-th utterance of its split, about five minutes in all.
    Raises `AudioError` if one of the two would be empty.
    """
    everything = read_manifest(manifest)
    train, dev = ([u for u in everything if u.split == split] for split in ("train", "dev"))
    if not train and not dev and len(everything) > 1:
        train, dev = [u for i, u in enumerate(everything) if i % 20], everything[::20]
    if not train or not dev:
        raise AudioError(f"manifest {manifest} needs utterances of the splits train and dev (or no splits at all)")
    return train, dev[:: max(1, round(sum(u.seconds for u in dev) / _DEV_SECONDS))]


def training_batches(
    data: TrainingData, recipe: StageRecipe, group: Processes, first_step: int
) -> Generator[tuple[int, Batch], None, None]:
    """For each step from `first_step` on: the number of utterances of its batch, and this process's share of them."""
    train = data.train

    def load(rows: _Rows) -> Batch:
        own = group.share(rows) or rows[:1]  # a process without a share takes part with weight 0
        utterances, windows = [train[row] for row, _, _ in own], [window for _, window, _ in own]

        def disturb(i: int, wave: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            row, _, epoch = own[i]
            rng = np.random.default_rng([recipe.seed, recipe.stage, epoch, 2, row])
            return disturbed(wave, train, rng) if rng.random() < recipe.disturb else wave

        return load_batch(utterances, data.goal, recipe.target_clip, data.heard, windows, disturb)

    return _read_ahead(islice(_plan(data, recipe), first_step, None), load)


def _plan(data: TrainingData, recipe: StageRecipe) -> Iterator[_Rows]:
    """Batches for step 0, 1, 2, ...: epoch after epoch."""
    for epoch in count():
        rng = np.random.default_rng([recipe.seed, recipe.stage, epoch])
        draw = np.random.default_rng([recipe.seed, recipe.stage, epoch, 1])
        windows: list[float] = draw.choice(data.goal.windows, len(data.train)).tolist()
        heard = [data.goal.seconds(u.seconds, window) for u, window in zip(data.train, windows, strict=True)]
        for rows in batches(heard, recipe.batch_seconds, rng):
            yield [(row, windows[row], epoch) for row in rows]


def _read_ahead(plan: Iterator[_Rows], load: Callable[[_Rows], Batch]) -> Generator[tuple[int, Batch], None, None]:
    """The batches of `plan` in order, with their sizes; threads read the next ones during a step.

    A fourth of the cores, 4 at most: on a GPU one thread would read more slowly than steps are done.
    """
    threads = max(1, min(4, (os.cpu_count() or 1) // 4))
    with ThreadPoolExecutor(threads) as pool:
        pending = [(rows, pool.submit(load, rows)) for rows in islice(plan, threads + 2)]
        while True:
            rows, batch = pending.pop(0)
            yield len(rows), batch.result()
            pending += [(rows, pool.submit(load, rows)) for rows in islice(plan, 1)]
