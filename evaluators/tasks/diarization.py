"""Who speaks when: a recurrent head on frozen hidden states, as SUPERB's diarization has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.tasks.data import Dataset, Example, Turn, check_turns
from evaluators.tasks.features import HiddenStates
from evaluators.tasks.heads import ActivityHead
from evaluators.tasks.metrics import diarization_error, tie_broken
from evaluators.tasks.task import Built, TaskContext
from search_spaces.types import JsonObject
from supernet.audio import batches, seconds_of

__all__ = ["Diarization", "activity", "build_diarization", "permutation_free", "turns_of"]

HIDDEN = 512  # SUPERB's LSTM
_THRESHOLD = 0.5
_MEDIAN = 11  # frames: SUPERB's filter


class Diarization:
    """Which of at most `speakers` are active in each frame; who is who is for the loss to find (permutation-free).

    `turns` has those of each recording by its id. Overlapping speech counts, and there is no collar.
    """

    def __init__(
        self,
        data: Dataset,
        turns: Mapping[str, Sequence[Turn]],
        speakers: int,
        states: HiddenStates,
        device: str = "cpu",
        hidden: int = 0,
    ) -> None:
        self.data, self.turns, self.speakers, self.states = data, turns, speakers, states
        self.device, self.hidden = device, hidden or HIDDEN
        self.frames = [states.frames(example) for example in data.train]
        self._seconds = {example.id: seconds_of(example.audio) for example in data.examples}

    def head(self) -> nn.Module:
        upstream = self.states.upstream
        return ActivityHead(upstream.layers, upstream.dim, self.speakers, self.hidden).to(self.device)

    def plan(self, rng: np.random.Generator, batch: int) -> list[list[int]]:
        return list(batches(self.frames, batch * float(np.mean(self.frames)), rng))

    def ids(self, rows: Sequence[int]) -> list[str]:
        return [self.data.train[row].id for row in rows]

    def loss(self, head: nn.Module, rows: Sequence[int]) -> Tensor:
        logits, truth, lengths = self._run(head, [self.data.train[row] for row in rows])
        return permutation_free(logits, truth, lengths)

    def dev(self, head: nn.Module) -> float:
        """One minus the error rate; at first no one is active, and the loss decides."""
        found, loss = self._found(head, self.data.dev)
        return tie_broken(1 - float(self._error(self.data.dev, [found])["der"]["value"]), loss)

    def test(self, heads: Sequence[nn.Module]) -> JsonObject:
        return self._error(self.data.test, [self._found(head, self.data.test)[0] for head in heads])

    def _error(self, examples: Sequence[Example], found: Sequence[Mapping[str, list[Turn]]]) -> JsonObject:
        names = [example.id for example in examples]
        truth, seconds = [self.turns[name] for name in names], [self._seconds[name] for name in names]
        return diarization_error(truth, [[own[name] for name in names] for own in found], seconds)

    @torch.no_grad()
    def _found(self, head: nn.Module, examples: Sequence[Example]) -> tuple[dict[str, list[Turn]], float]:
        """The turns of each recording by its id, and the mean loss."""
        found: dict[str, list[Turn]] = {}
        loss = 0.0
        for chosen in self._batches(examples):
            logits, truth, lengths = self._run(head, chosen)
            loss += len(chosen) * float(permutation_free(logits, truth, lengths)) / len(examples)
            for example, row, length in zip(chosen, logits, lengths.tolist(), strict=True):
                active = _smooth((row[:length].sigmoid() > _THRESHOLD).cpu().numpy())
                found[example.id] = turns_of(active, self._seconds[example.id])
        return found, loss

    def _run(self, head: nn.Module, chosen: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
        states, lengths = self.states.batch(chosen, self.device)
        known = [
            activity(self.turns[e.id], frames, self._seconds[e.id], self.speakers)
            for e, frames in zip(chosen, lengths.tolist(), strict=True)
        ]
        truth = nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in known], batch_first=True)
        return head(states, lengths), truth.to(self.device), lengths

    def _batches(self, examples: Sequence[Example]) -> list[list[Example]]:
        frames = [self.states.frames(example) for example in examples]
        return [[examples[row] for row in rows] for rows in batches(frames, 8000)]


def activity(turns: Sequence[Turn], frames: int, seconds: float, speakers: int) -> npt.NDArray[np.float32]:
    """(T, speakers), 1 where one is active in the middle of a frame; speakers in order of their first turn."""
    middle = (np.arange(frames) + 0.5) * seconds / frames
    names = list(dict.fromkeys(speaker for _, _, speaker in sorted(turns)))
    active = np.zeros((frames, speakers), np.float32)
    for start, end, speaker in turns:
        active[(start <= middle) & (middle < end), names.index(speaker)] = 1
    return active


def turns_of(active: npt.NDArray[np.bool_], seconds: float) -> list[Turn]:
    """The turns of (T, speakers), which are called by their number."""
    edge, turns = np.zeros((1, active.shape[1]), bool), []
    changes = np.diff(np.concatenate([edge, active, edge]).astype(np.int8), axis=0)
    for speaker in range(active.shape[1]):
        starts, ends = (np.flatnonzero(changes[:, speaker] == step) * seconds / len(active) for step in (1, -1))
        turns += [(float(a), float(b), str(speaker)) for a, b in zip(starts, ends, strict=True)]
    return turns


def permutation_free(logits: Tensor, truth: Tensor, lengths: Tensor) -> Tensor:
    """Binary cross entropy, its mean over frames and speakers, with the speakers of each recording in the best order.

    `logits` and `truth` (B, T, speakers); frames from `lengths` on are padding (Fujita et al. 2019, equation 3).
    """
    speakers = logits.shape[-1]
    mask = (torch.arange(logits.shape[1]) < lengths[:, None]).to(logits.device)[..., None, None]
    guess, known = (x.expand(-1, -1, speakers, speakers) for x in (logits.unsqueeze(3), truth.unsqueeze(2)))
    pairs = (F.binary_cross_entropy_with_logits(guess, known, reduction="none") * mask).sum(1)  # (B, guess, known)
    orders = list(permutations(range(speakers)))
    costs = torch.stack([pairs[:, range(speakers), order].sum(1) for order in orders]).amin(0)
    return (costs / (speakers * lengths.to(costs.device))).mean()


def _smooth(active: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Median of `_MEDIAN` frames."""
    half = _MEDIAN // 2
    padded = np.pad(active, ((half, half), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN, 0).mean(-1) > 0.5  # type: ignore[no-any-return]


def build_diarization(context: TaskContext) -> Built:
    """Who speaks when, among as many speakers as a train recording has at most."""
    turns, speakers = check_turns(context.manifest, context.data)
    context.fill(context.data)
    problem = Diarization(context.data, turns, speakers, context.states, context.device, context.hidden)
    return Built(problem, context.data, {"speakers": speakers, "head": f"LSTM of {problem.hidden}"})
