"""Closed-form linear probes: what frozen features know about a label of the whole utterance.

A probe of the mean over time is a probe of the frames that only knows what they add up to: linear maps commute with
the mean. So letters are probed without an alignment too, as how often each comes in a frame.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from copy import copy
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from search_spaces import AudioError, NasError, Subnet
from supernet.audio import LABELS, Utterance, load_audio, normalise, read_manifest
from supernet.model import HubertSupernet
from supernet.shared import SharedEncoder, Speech

__all__ = ["ProbeScore", "pooled", "ridge", "ridge_probe"]

_LEAST_OF_A_CLASS = 5
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


class ProbeScore:
    """How much of a label a ridge probe of a subnet's hidden states explains on dev: higher is better, 1 is all.

    Fitted on utterances of the manifest's train split, measured on dev: the share of the variance of the one-hot
    labels (`text`: of each letter's share of the frames) that is explained. Finer than accuracy, which on so few
    utterances has many ties. `seconds` of speech are heard, two thirds of them from train, all classes alike;
    utterances without the label and classes of fewer than five train utterances are left out. One dev utterance in
    four is set apart for `held_out`. The front end is the same for every subnet, so its features are computed once.
    """

    higher_is_better = True
    held_out: ProbeScore | None = None

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
        self.model, self.label, self.name = model.to(device).eval(), label, f"probe:{label}"
        train = self._chosen(read_manifest(audio, "train"), seconds * 2 / 3)
        known = {getattr(utterance, label) for utterance in train} if label != "text" else None
        dev = self._chosen(read_manifest(audio, "dev"), seconds / 3, known)
        if min(len(train), len(dev)) < 4 or (known is not None and len(known) < 2):
            raise AudioError(
                f"{audio} has {len(train)} train and {len(dev)} dev utterances for {self.name}, of "
                f"{len(known or train)} classes with {_LEAST_OF_A_CLASS} or more in train; a probe needs 4, 4 and 2"
            )
        targets = _letters(train, dev) if label == "text" else _classes(train, dev, label)
        self._train, self._targets = self._heard(train, targets[0], device)
        self._dev, self._dev_targets = self._heard(dev, targets[1], device)
        self.settings = {
            "speech": str(audio),
            "train": len(train),
            "dev": len(dev),
            "weights": self.model.fingerprint(),
        }
        if len(dev) >= 8:
            aside = [i % 4 == 3 for i in range(len(dev))]
            self.held_out = copy(self)
            self.held_out._keep([i for i in range(len(dev)) if aside[i]])
            self.held_out.source = f"{sum(aside)} utterances that the search did not hear"
            self._keep([i for i in range(len(dev)) if not aside[i]])
        self.to(device)

    source = "dev"

    def to(self, device: str) -> ProbeScore:
        """Itself, scoring on another device from now on."""
        self.model.to(device)
        self._encoders = tuple(SharedEncoder(self.model, Speech(part, device)) for part in (self._train, self._dev))
        self._targets, self._dev_targets = self._targets.to(device), self._dev_targets.to(device)
        if self.held_out is not None:
            self.held_out.to(device)
        return self

    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        """One score for each subnet. What they share is computed once, whatever their order."""
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

    def _keep(self, rows: list[int]) -> None:
        self._dev, self._dev_targets = [self._dev[row] for row in rows], self._dev_targets[rows]

    @torch.no_grad()
    def _heard(self, utterances: Sequence[Utterance], targets: Tensor, device: str) -> tuple[list[Tensor], Tensor]:
        """Front-end features (T, C), shortest first, and their targets."""
        least = self.model.space.network.receptive_field
        waves = [torch.from_numpy(normalise(load_audio(utterance.audio, least))) for utterance in utterances]
        features = [self.model.front_end(wave[None].to(device))[0] for wave in waves]
        order = sorted(range(len(features)), key=lambda row: len(features[row]))
        return [features[row] for row in order], targets[order]

    def _chosen(
        self, utterances: Sequence[Utterance], seconds: float, known: set[str] | None = None
    ) -> list[Utterance]:
        """Utterances with the label, class by class in turn, until `seconds` are full."""
        classes: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in utterances:
            name = getattr(utterance, self.label)
            if name and (known is None or self.label == "text" or name in known):
                classes["" if self.label == "text" else name].append(utterance)
        if known is None and self.label != "text":
            classes = {name: each for name, each in classes.items() if len(each) >= _LEAST_OF_A_CLASS}  # type: ignore[assignment]
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
