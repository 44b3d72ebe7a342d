"""Scores of subnets, from proxies. Importing this does not import torch.

teacher_distance.py  distillation: distance from the teacher's hidden states

successive.py        the same, ruling out on a quarter of the speech the subnets that cannot be the best
decoding.py          ce, kl: what a subnet is worth to a whole model's decoder, given the text
probes.py            probe:LABEL: share of a label that linear probes explain
synthetic.py         synthetic[:SEED]: a made-up score with a known optimum
mixed.py             weighted sums
context.py           the input of the scores' constructors


`SCORES` holds the names that users may use; each entry is a function `make(context, argument) -> Score`. The argument
is the text after the colon. A score is a name or a weighted sum of names: `probe:speaker+0.5*distillation`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.scores.context import ScoreContext
from evaluators.scores.mixed import SCORES, make_score
from evaluators.scores.synthetic import SyntheticScore
from search_spaces import Score, Space

if TYPE_CHECKING:
    from evaluators.scores.probes import ProbeScore
    from evaluators.scores.teacher_distance import DistillationScore
    from supernet import HubertSupernet

__all__ = ["SCORES", "ScoreContext", "distillation", "get_score", "probe", "synthetic"]


def get_score(
    words: str,
    model: HubertSupernet,
    device: str = "cpu",
    audio: Path | str | None = None,
    teacher: Path | str | None = None,
    precision: str = "fp32",
    successive: bool = False,
) -> Score:
    """The score that `words` name, of subnets of `model`; the other arguments are those of `ScoreContext`."""
    return make_score(words, ScoreContext(model, device, audio, teacher, precision, successive))


def distillation(
    model: HubertSupernet,
    device: str = "cpu",
    audio: Path | str | None = None,
    teacher: Path | str | None = None,
    split: str | None = None,
    seconds: float = 64.0,
    precision: str = "fp32",
) -> DistillationScore:
    """Distance of subnets of `model` from the teacher, on `audio` or the supernet's own calibration speech."""
    from evaluators.scores.teacher_distance import DistillationScore

    return DistillationScore(model, device, audio, teacher, split, seconds, precision)


def probe(
    model: HubertSupernet, label: str, audio: Path | str, device: str = "cpu", seconds: float = 180.0
) -> ProbeScore:
    """How much linear probes on subnets of `model` explain of `label`, on the manifest `audio`."""
    from evaluators.scores.probes import ProbeScore

    return ProbeScore(model, label, audio, device, seconds)


def synthetic(space: Space, seed: int = 0, noise: float = 0.0, interactions: float = 0.0) -> SyntheticScore:
    """A made-up score with a known optimum: see `SyntheticScore`."""
    return SyntheticScore(space, seed, noise, interactions)
