"""Tasks on whole utterances: classes (speaker, language, keyword, intent, emotion) and speaker verification."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.tasks.data import Dataset, Example, check_classes
from evaluators.tasks.features import HiddenStates
from evaluators.tasks.heads import SpeakerHead, UtteranceHead
from evaluators.tasks.metrics import accuracy, detection, equal_error_rate, tie_broken
from evaluators.tasks.task import Built, TaskContext
from search_spaces import AudioError
from search_spaces.types import JsonObject

__all__ = ["Classification", "Verification", "build_classification", "build_verification"]

MAX_TRIALS = 20_000


class Classification:
    """Mean hidden states of every utterance, and their classes."""

    def __init__(self, data: Dataset, classes: Sequence[str], states: HiddenStates, device: str = "cpu") -> None:
        self.data, self.classes, self.device = data, tuple(classes), device
        self.means = {part: torch.cat([states[e] for e in examples], 1) for part, examples in data.parts.items()}
        self.layers, self.dim = states.upstream.layers, states.upstream.dim
        index = {name: i for i, name in enumerate(classes)}
        self.labels = {
            part: torch.tensor([index.get(e.label, -1) for e in examples]) for part, examples in data.parts.items()
        }

    def head(self) -> nn.Module:
        return UtteranceHead(self.layers, self.dim, len(self.classes)).to(self.device)

    def plan(self, rng: np.random.Generator, batch: int) -> list[list[int]]:
        count = len(self.data.train)
        return [rows.tolist() for rows in np.array_split(rng.permutation(count), max(1, round(count / batch)))]

    def ids(self, rows: Sequence[int]) -> list[str]:
        return [self.data.train[row].id for row in rows]

    def loss(self, head: nn.Module, rows: Sequence[int]) -> Tensor:
        means, labels = self._batch(rows)
        return F.cross_entropy(head(means), labels)

    def _batch(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        means = self.means["train"][:, list(rows)].to(self.device).float()
        return means, self.labels["train"][list(rows)].to(self.device)

    def dev(self, head: nn.Module) -> float:
        """Accuracy, and of equals the one with the smaller loss."""
        logits = self._run(head, "dev")
        loss = float(F.cross_entropy(logits, self.labels["dev"]))
        return tie_broken(float((logits.argmax(1) == self.labels["dev"]).double().mean()), loss)

    def test(self, heads: Sequence[nn.Module]) -> JsonObject:
        guesses = [self._run(head, "test").argmax(1) for head in heads]
        return accuracy(torch.stack([guess == self.labels["test"] for guess in guesses]).numpy())

    @torch.no_grad()
    def _run(self, head: nn.Module, part: str) -> Tensor:
        parts = torch.split(self.means[part], 1024, 1)
        return torch.cat([head(means.to(self.device).float()).cpu() for means in parts])


class Verification(Classification):
    """Are two recordings of one speaker? The dataset's trials, or all pairs of test recordings (at most 20,000)."""

    def __init__(self, data: Dataset, classes: Sequence[str], states: HiddenStates, device: str = "cpu") -> None:
        super().__init__(data, classes, states, device)
        self._dev = _trials(data.dev, ())
        self._test = _trials(data.test, data.trials)

    def head(self) -> nn.Module:
        return SpeakerHead(self.layers, self.dim, len(self.classes)).to(self.device)

    def loss(self, head: nn.Module, rows: Sequence[int]) -> Tensor:
        assert isinstance(head, SpeakerHead)
        return head.loss(*self._batch(rows))

    def dev(self, head: nn.Module) -> float:
        """One minus the equal error rate."""
        pairs, same = self._dev
        return 1 - equal_error_rate(same, self._scores(head, "dev", pairs))

    def test(self, heads: Sequence[nn.Module]) -> JsonObject:
        pairs, same = self._test
        scores = np.stack([self._scores(head, "test", pairs) for head in heads])
        return {**detection(same, scores, pairs, len(self.data.test)), "trials": len(same)}

    def _scores(self, head: nn.Module, part: str, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        embeddings = self._run(head, part).double().numpy()
        scores: npt.NDArray[np.float64] = np.einsum("td,td->t", embeddings[pairs[:, 0]], embeddings[pairs[:, 1]])
        return scores


def _trials(
    examples: Sequence[Example], listed: Sequence[tuple[str, str, bool]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Pairs (trials, 2) of rows of `examples`, and whether they are one speaker's."""
    if listed:
        row = {example.id: i for i, example in enumerate(examples)}
        pairs = np.array([(row[a], row[b]) for a, b, _ in listed])
        same = np.array([truth for _, _, truth in listed])
    else:
        pairs = np.array(list(combinations(range(len(examples)), 2))).reshape(-1, 2)
        if len(pairs) > MAX_TRIALS:
            pairs = pairs[np.sort(np.random.default_rng(0).permutation(len(pairs))[:MAX_TRIALS])]
        names = np.array([example.label for example in examples])
        same = names[pairs[:, 0]] == names[pairs[:, 1]] if len(pairs) else np.zeros(0, bool)
    if same.all() or not same.any():
        raise AudioError("verification needs trials of the same and of different speakers, in dev and in test")
    return pairs, same


def build_classification(context: TaskContext) -> Built:
    """Classes of whole recordings, all of them seen in train."""
    classes = check_classes(context.manifest, context.data, context.task.label)
    context.fill(context.data)
    problem = Classification(context.data, classes, context.states, context.device)
    return Built(problem, context.data, {"classes": len(classes)}, round(1 / len(classes), 4))


def build_verification(context: TaskContext) -> Built:
    """Pairs of recordings of the same speaker or of two, who need not be in train."""
    classes = check_classes(context.manifest, context.data, context.task.label, open_set=True)
    context.fill(context.data)
    problem = Verification(context.data, classes, context.states, context.device)
    return Built(problem, context.data, {"classes": len(classes)})
