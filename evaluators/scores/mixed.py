"""Scores by their words: one score, or a weighted sum such as `probe:speaker+0.5*distillation`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces import NasError, Subnet

__all__ = ["MixedScore", "get_score", "parse_score"]


@dataclass(frozen=True)
class MixedScore:
    """The weighted sum of scores, of which more is better; those of which less is better are subtracted."""

    terms: tuple[tuple[float, Any], ...]
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
            score.to(device)
        return self

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "terms": [
                {"weight": weight, "score": score.name, **getattr(score, "settings", {})}
                for weight, score in self.terms
            ]
        }

    @property
    def held_out(self) -> MixedScore | None:
        """The same sum on speech set apart, where every term has some."""
        apart = [(weight, getattr(score, "held_out", None)) for weight, score in self.terms]
        return MixedScore(tuple(apart)) if all(score is not None for _, score in apart) else None

    @property
    def source(self) -> str:
        return str(getattr(self.terms[0][1], "source", "held-out speech"))

    @staticmethod
    def _sign(score: Any) -> int:
        return 1 if score.higher_is_better else -1


def parse_score(words: str) -> list[tuple[float, str, str]]:
    """(weight, kind, label) of each term of `[WEIGHT*]NAME+...`; NAME is distillation or probe:LABEL."""
    terms = []
    for term in words.split("+"):
        weight, star, name = term.rpartition("*")
        kind, _, label = name.strip().partition(":")
        try:
            factor = float(weight) if star else 1.0
        except ValueError:
            factor = math.nan
        if not (math.isfinite(factor) and factor > 0) or (kind, bool(label)) not in (
            ("distillation", False),
            ("probe", True),
        ):
            raise NasError(
                f"a score is distillation, probe:LABEL, or a sum such as 'probe:speaker+0.5*distillation' with weights "
                f"above 0; got {words!r}"
            )
        terms.append((factor, kind, label))
    return terms


def get_score(
    words: str,
    model: Any,
    device: str = "cpu",
    audio: Path | str | None = None,
    teacher: Path | str | None = None,
    precision: str = "fp32",
    successive: bool = False,
) -> Any:
    """The score that `words` name, of the supernet `model`. `audio`: the manifest that probes and distances hear.

    `precision` is that of distances. `successive`: see `SuccessiveScore`; for teacher distance alone.
    """
    from evaluators.scores.probes import ProbeScore
    from evaluators.scores.successive import SuccessiveScore
    from evaluators.scores.teacher_distance import DistillationScore

    terms = parse_score(words)
    if successive:
        if [(weight, kind) for weight, kind, _ in terms] != [(1.0, "distillation")]:
            raise NasError(f"successive evaluation is for the score distillation; got {words!r}")
        return SuccessiveScore(model, device=device, audio=audio, teacher=teacher, precision=precision)
    scores = [
        ProbeScore(model, label, audio, device)
        if kind == "probe"
        else DistillationScore(model, device=device, audio=audio, teacher=teacher, precision=precision)
        for _, kind, label in terms
    ]
    if len(terms) == 1 and terms[0][0] == 1.0:
        return scores[0]
    return MixedScore(tuple((weight, score) for (weight, _, _), score in zip(terms, scores, strict=True)))
