"""Closed-form linear probes: how much frozen features reveal of a label of the whole utterance.

A probe of the mean over time is a probe of the frames that only knows what they add up to: linear maps commute with
the mean. So letters are probed without an alignment too, as how often each comes in a frame.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from evaluators.scores.context import MAX_RECORDING_SECONDS, MIN_TO_HOLD_OUT, ScoreContext, no_score, require_whole
from search_spaces import AudioError, NasError, Subnet
from supernet.audio import LABELS, Utterance, load_audio, read_manifest
from supernet.model import HubertSupernet
from supernet.shared import SharedEncoder, Speech

__all__ = ["ProbeScore", "make_probe", "pooled", "ridge", "ridge_probe"]

MIN_OF_A_CLASS = 5
_PROBED = tuple(label for label in LABELS if label not in ("phones", "turns"))  # neither classes nor letters
_PENALTIES = (1e0, 1e1, 1e2, 1e3, 1e4)


def pooled(hidden_states: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """One vector for an utterance: the mean over time of each hidden state (T, D), joined."""
    return torch.cat([state.double().mean(0) for state in hidden_states])


def ridge(train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
    """Predictions (M, K) of ridge regression fitted on (N, D) and (N, K), float64.

    Features are standardised on the train set; the penalty is the best of a fixed grid by leave-one-out error on the
    train set, in closed form (Allen's PRESS). Solved in the N dimensions of the train set, as N is mostly below D.
    """
    mean, std = train_x.mean(0), train_x.std(0) + 1e-6
    x, test = (train_x - mean) / std, (test_x - mean) / std
    centre = train_y.mean(0)
    y = train_y - centre
    s2, u = torch.linalg.eigh(x @ x.T)
    s2, projected = s2.clamp(min=0), u.T @ y
    best, weights = float("inf"), torch.zeros(0)
    for penalty in _PENALTIES:
        shrink = s2 / (s2 + penalty)
        leverage = (u**2 @ shrink) + 1 / len(x)
        press = float((((y - u @ (shrink[:, None] * projected)) / (1 - leverage).clamp(min=1e-6)[:, None]) ** 2).mean())
        if press < best:
            best, weights = press, u @ (projected / (s2 + penalty)[:, None])
    return test @ (x.T @ weights) + centre if weights.numel() else torch.full((len(test), y.shape[1]), torch.nan)


def ridge_probe(train_x: Tensor, train_y: list[str], test_x: Tensor, test_y: list[str]) -> float:
    """Accuracy (0..1) of `ridge` on one-hot labels. Test labels that are unknown in train count as wrong."""
    labels = sorted(set(train_y))
    guesses: list[int] = ridge(train_x, _one_hot(train_y, labels), test_x).argmax(1).tolist()
    right = [labels[guess] == truth for guess, truth in zip(guesses, test_y, strict=True)]
    return sum(right) / len(right)


class LinearProbe:
    """The share of the variance of a label on `dev` that a ridge probe fitted on `train` explains: 1 is all of it.

    The features of each front end are computed once.
    """

    higher_is_better = True
    held_out: LinearProbe | None = None

    def __init__(self, model: HubertSupernet, name: str, train: _Labelled, dev: _Labelled, source: str) -> None:
        self.model, self.name, self.source = model, name, source
        self._train, self._dev = train, dev
        self.settings: dict[str, object] = {}

    def to(self, device: str) -> LinearProbe:
        """Itself, scoring on another device from now on."""
        self.model.to(device)
        parts = (self._train, self._dev)
        self._encoders = tuple(SharedEncoder(self.model, part.speech(device)) for part in parts)
        self._targets, self._dev_targets = (part.targets.to(device) for part in parts)
        if self.held_out is not None:
            self.held_out.to(device)
        return self

    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        """One score for each subnet. Shared layers are computed once, in any order of the subnets."""
        means = (self._means(encoder, subnets) for encoder in self._encoders)
        return [self._explained(train, dev) for train, dev in zip(*means, strict=True)]

    def _explained(self, train: Tensor, dev: Tensor) -> float:
        known = self._dev_targets - self._targets.mean(0)
        errors = self._dev_targets - ridge(train, self._targets, dev)
        return float(1 - errors.square().sum() / known.square().sum())

    def _means(self, encoder: SharedEncoder, subnets: Sequence[Subnet]) -> list[Tensor]:
        """For each subnet (utterances, its states x D): mean hidden states, joined over the input and kept layers."""
        space, lengths = self.model.space, encoder.speech.lengths
        states = range(space.network.num_layers + 1)
        means = encoder.read(
            subnets, states, lambda _, hidden: torch.stack([pooled([own]) for own in torch.split(hidden, lengths)])
        )
        kept = ([0, *(layer + 1 for layer in space.kept_layers(subnet.depth))] for subnet in subnets)
        return [torch.cat([row[k] for k in layers], dim=1) for row, layers in zip(means, kept, strict=True)]


@dataclass(frozen=True)
class _Labelled:
    """Features (T, C) by front end of utterances, shortest first, and their targets (N, K)."""

    features: Mapping[tuple[int, ...], list[Tensor]]
    targets: Tensor

    def rows(self, rows: Sequence[int]) -> _Labelled:
        features = {front_end: [own[row] for row in rows] for front_end, own in self.features.items()}
        return _Labelled(features, self.targets[list(rows)])

    def speech(self, device: str) -> dict[tuple[int, ...], Speech]:
        return {front_end: Speech(own, device) for front_end, own in self.features.items()}


class ProbeScore(LinearProbe):
    """How much of a label a ridge probe of a subnet's hidden states explains on dev: higher is better, 1 is all.

    Fitted on utterances of the manifest's train split, measured on dev: the share of the variance of the one-hot
    labels (`text`: of each letter's share of the frames) that is explained. This is finer than accuracy, which has many
    ties on so few utterances. `seconds` of speech are used, two thirds of them from train, all classes alike;
    utterances without the label and classes of fewer than five train utterances are left out. One dev utterance in
    four is set apart for `held_out`.
    """

    def __init__(
        self,
        model: HubertSupernet,
        label: str,
        audio: Path | str | None,
        device: str = "cpu",
        seconds: float = 180.0,
    ) -> None:
        if label not in _PROBED:
            raise NasError(f"probe:{label} is no score: a probe is of {', '.join(_PROBED)}")
        if audio is None:
            raise NasError(f"probe:{label} needs speech with that label (--audio manifest.jsonl)")
        model = model.to(device).eval()
        train, dev = _utterances(audio, label, seconds)
        targets = _letters(train, dev) if label == "text" else _classes(train, dev, label)
        train_speech = _features(model, train, targets[0], device)
        dev_speech = _features(model, dev, targets[1], device)
        rows = range(len(dev))
        apart = [i for i in rows if i % 4 == 3] if len(dev) >= MIN_TO_HOLD_OUT else []
        kept = dev_speech.rows([i for i in rows if i not in set(apart)])
        super().__init__(model, f"probe:{label}", train_speech, kept, "dev")
        self.settings = {
            "speech": str(audio),
            "train": len(train),
            "dev": len(dev),
            "weights": model.fingerprint(),
        }
        if apart:
            source = f"{len(apart)} utterances that the search did not use"
            self.held_out = LinearProbe(model, self.name, train_speech, dev_speech.rows(apart), source)
            self.held_out.settings = self.settings
        self.to(device)


def make_probe(context: ScoreContext, argument: str | None) -> ProbeScore:
    """`probe:LABEL`."""
    if argument is None:
        raise no_score("probe")
    require_whole(context, f"probe:{argument}")
    return ProbeScore(context.model, argument, context.audio, context.device)


# -------------------------------------------------------------------- speech with labels


def _utterances(audio: Path | str, label: str, seconds: float) -> tuple[list[Utterance], list[Utterance]]:
    """Train and dev utterances with the label; raises `AudioError` if they are too few for a probe."""
    train = _chosen(read_manifest(audio, "train"), label, seconds * 2 / 3)
    known = {getattr(utterance, label) for utterance in train} if label != "text" else None
    dev = _chosen(read_manifest(audio, "dev"), label, seconds / 3, known)
    if min(len(train), len(dev)) < 4 or (known is not None and len(known) < 2):
        raise AudioError(
            f"{audio} has {len(train)} train and {len(dev)} dev utterances for probe:{label}, of "
            f"{len(known or train)} classes with {MIN_OF_A_CLASS} or more in train; a probe needs 4, 4 and 2"
        )
    return train, dev


@torch.no_grad()
def _features(model: HubertSupernet, utterances: Sequence[Utterance], targets: Tensor, device: str) -> _Labelled:
    least = model.space.network.receptive_field
    waves = [load_audio(utterance.audio, least, MAX_RECORDING_SECONDS) for utterance in utterances]
    each = [model.features_of_each(model.heard(wave)[None].to(device)) for wave in waves]
    order = sorted(range(len(waves)), key=lambda row: len(waves[row]))
    features = {front_end: [each[row][front_end][0] for row in order] for front_end in model.space.front_ends}
    return _Labelled(features, targets[order])


def _chosen(
    utterances: Sequence[Utterance], label: str, seconds: float, known: set[str] | None = None
) -> list[Utterance]:
    """Utterances with the label, class by class in turn, up to `seconds`."""
    classes: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        name = getattr(utterance, label)
        if name is not None and (known is None or label == "text" or name in known):
            classes["" if label == "text" else name].append(utterance)
    if known is None and label != "text":
        classes = defaultdict(list, {name: each for name, each in classes.items() if len(each) >= MIN_OF_A_CLASS})
    chosen, total = [], 0.0
    for utterance in (u for turn in zip_longest(*map(_spread, classes.values())) for u in turn if u):
        if total >= seconds:
            break
        chosen.append(utterance)
        total += utterance.seconds
    return chosen


def _spread(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The same, so that the first few come from all over: every 8th first."""
    return [utterance for start in range(8) for utterance in utterances[start::8]]


def _classes(train: Sequence[Utterance], dev: Sequence[Utterance], label: str) -> tuple[Tensor, Tensor]:
    names = [[getattr(utterance, label) for utterance in part] for part in (train, dev)]
    labels = sorted(set(names[0]))
    return _one_hot(names[0], labels), _one_hot(names[1], labels)


def _one_hot(names: Sequence[str], labels: Sequence[str]) -> Tensor:
    return torch.tensor([[float(label == name) for label in labels] for name in names], dtype=torch.float64)


def _letters(train: Sequence[Utterance], dev: Sequence[Utterance]) -> tuple[Tensor, Tensor]:
    """Letters a second, of those that make up 1 % of the train texts, each with deviation 1 on train."""
    counted = Counter(letter for utterance in train for letter in (utterance.text or "").casefold())
    letters = sorted(letter for letter, n in counted.items() if letter.isalnum() and n >= 0.01 * counted.total())
    rates = [
        torch.tensor(
            [[(u.text or "").casefold().count(letter) / u.seconds for letter in letters] for u in part],
            dtype=torch.float64,
        )
        for part in (train, dev)
    ]
    deviation = rates[0].std(0) + 1e-9
    return rates[0] / deviation, rates[1] / deviation
