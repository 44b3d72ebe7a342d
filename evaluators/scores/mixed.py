"""Scores by name: one score, or a weighted sum such as `probe:speaker+0.5*distillation`.

score = term {"+" term}
term  = [weight "*"] name [":" argument]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast, runtime_checkable

from evaluators.scores.context import ScoreContext, no_score
from search_spaces import HeldOutScore, NasError, Score, Subnet
from search_spaces.registry import Registry

__all__ = ["MixedScore", "SCORES", "Term", "make_score", "parse_score"]

SCORES = Registry(
    "score",
    "lighthubert_nas.scores",
    {
        "distillation": "evaluators.scores.teacher_distance:make_distillation",
        "ce": "evaluators.scores.decoding:make_ce",
        "kl": "evaluators.scores.decoding:make_kl",
        "probe": "evaluators.scores.probes:make_probe",
        "synthetic": "evaluators.scores.synthetic:make_synthetic",
    },
)


@runtime_checkable
class _OnDevice(Protocol):
    """A score whose weights are on a device."""

    def to(self, device: str) -> object: ...


@runtime_checkable
class _Sourced(Protocol):
    """A score that names the speech it is computed on."""

    source: str


@dataclass(frozen=True)
class MixedScore:
    """The weighted sum of scores, greater is better; terms of which less is better are subtracted."""

    terms: tuple[tuple[float, Score], ...]
    higher_is_better = True

    @property
    def name(self) -> str:
        return "+".join(f"{'' if weight == 1 else f'{weight:g}*'}{score.name}" for weight, score in self.terms)

    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        """One number for each subnet."""
        columns = [[self._sign(score) * weight * float(v) for v in score(subnets)] for weight, score in self.terms]
        return [math.fsum(row) for row in zip(*columns, strict=True)]

    def to(self, device: str) -> MixedScore:
        """Itself, scoring on another device from now on."""
        for _, score in self.terms:
            if isinstance(score, _OnDevice):
                score.to(device)
        return self

    @property
    def settings(self) -> dict[str, object]:
        return {"terms": [{"weight": weight, "score": score.name, **score.settings} for weight, score in self.terms]}

    @property
    def held_out(self) -> MixedScore | None:
        """The same sum on speech set apart, if every term has some."""
        apart = []
        for weight, score in self.terms:
            held_out = score.held_out if isinstance(score, HeldOutScore) else None
            if held_out is None:
                return None
            apart.append((weight, held_out))
        return MixedScore(tuple(apart))

    @property
    def source(self) -> str:
        first = self.terms[0][1]
        return first.source if isinstance(first, _Sourced) else "held-out speech"

    @staticmethod
    def _sign(score: Score) -> int:
        return 1 if score.higher_is_better else -1


class Term(NamedTuple):
    """One score of a sum, as written; its argument is empty if it has none."""

    weight: float
    name: str
    argument: str


def parse_score(words: str) -> list[Term]:
    """The terms of `[WEIGHT*]NAME[:ARGUMENT]+...`; raises `NasError` for anything else, listing the known names."""
    return [_term(words, text) for text in words.split("+")]


def _term(words: str, text: str) -> Term:
    weight, star, name = text.rpartition("*")
    kind, colon, argument = name.strip().partition(":")
    try:
        factor = float(weight) if star else 1.0
    except ValueError:
        factor = math.nan
    if not (math.isfinite(factor) and factor > 0) or kind not in SCORES or (colon and not argument):
        raise no_score(words, SCORES)
    return Term(factor, kind, argument)


def make_score(words: str, context: ScoreContext) -> Score:
    """The score that `words` name: of one term with weight 1 that score itself, else a `MixedScore`."""
    terms = parse_score(words)
    alone = len(terms) == 1 and terms[0].weight == 1.0
    if context.successive and not alone:
        raise NasError(f"successive evaluation is for the score distillation; got {words!r}")
    scores = []
    for weight, name, argument in terms:
        make = cast(Callable[[ScoreContext, str | None], Score], SCORES.load(name))
        scores.append((weight, make(context, argument or None)))
    return scores[0][1] if alone else MixedScore(tuple(scores))
