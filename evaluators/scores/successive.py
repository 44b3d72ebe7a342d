"""Teacher distance on a quarter of the speech first, and on the rest only for subnets that may still be the best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from evaluators.scores.teacher_distance import DistillationScore, Part
from search_spaces import NasError, Subnet
from supernet.calibration import CalibrationSpeech
from supernet.model import HubertSupernet

__all__ = ["SuccessiveScore"]

MIN_OF_A_QUARTER = 4


class SuccessiveScore(DistillationScore):
    """`DistillationScore`, which can also compare subnets `against` the best known one, for less.

    Every fourth utterance by length is the quarter. A subnet's loss against the best there, utterance by utterance on
    the same frames, has a mean (weighted by length) and a standard error; a subnet whose mean is more than `margin`
    of these errors behind is ruled out. Its score is then an estimate: the best score plus this loss.

    Raises `NasError` if the supernet has no prediction heads, or the quarter has fewer than four utterances.
    """

    def __init__(
        self,
        model: HubertSupernet,
        device: str = "cpu",
        audio: Path | str | None = None,
        teacher: Path | str | None = None,
        split: str | None = None,
        seconds: float = 64.0,
        precision: str = "fp32",
        apart: tuple[CalibrationSpeech, str] | None = None,
        margin: float = 3.0,
    ) -> None:
        self._parts_of_quarter = 0
        super().__init__(model, device, audio, teacher, split, seconds, precision, apart)
        if self._fitted:
            raise NasError(
                "successive evaluation needs a supernet with prediction heads, or a space of the network's width alone"
            )
        self.margin = margin
        self.settings = {**self.settings, "successive": margin}
        if apart is not None:
            return
        utterances = len(self._lengths())
        if utterances < MIN_OF_A_QUARTER:
            raise NasError(
                f"successive evaluation needs {MIN_OF_A_QUARTER} utterances in a quarter of the speech; "
                f"got {utterances}: give more recordings (--audio manifest.jsonl)"
            )

    def against(self, subnets: Sequence[Subnet], best: Subnet, score: float) -> list[tuple[float, bool]]:
        """(score, whether it was ruled out) of each subnet, `score` being that of `best`."""
        known, *result = self._on_quarter([best, *subnets])
        lengths = torch.tensor(self._lengths()).to(known)
        lost = (torch.stack(result) - known) / lengths if result else known.new_zeros(0, len(lengths))
        weights = lengths / lengths.sum()
        mean = (lost * weights).sum(1)
        variance = ((lost - mean[:, None]).square() * weights).sum(1) / (len(lengths) - 1)
        behind = (mean - self.margin * variance.sqrt()).tolist()
        estimates = (score + mean).tolist()
        still_in = [subnet for subnet, by in zip(subnets, behind, strict=True) if not by > 0]
        whole = iter(self._whole(still_in, [row for row, by in zip(result, behind, strict=True) if not by > 0]))
        return [
            (estimate, True) if by > 0 else (next(whole), False) for estimate, by in zip(estimates, behind, strict=True)
        ]

    def _whole(self, subnets: Sequence[Subnet], on_quarter: Sequence[Tensor]) -> list[float]:
        """The scores of subnets whose errors on the quarter are known."""
        if not subnets:
            return []
        rest = self._errors(subnets, self._parts[self._parts_of_quarter :])
        quarter = torch.stack([errors.sum() for errors in on_quarter])
        return ((quarter + rest.mean(1)) / self._frames).tolist()  # type: ignore[no-any-return]

    def _on_quarter(self, subnets: Sequence[Subnet]) -> list[Tensor]:
        """For each subnet, its squared error on each utterance of the quarter, the mean of the heads."""
        parts = [self._by_utterance(part, subnets) for part in self._parts[: self._parts_of_quarter]]
        return [torch.cat(rows) for rows in zip(*parts, strict=True)]

    def _lengths(self) -> list[int]:
        """Of the utterances of the quarter, in frames."""
        return [length for part in self._parts[: self._parts_of_quarter] for length in part.speech.lengths]

    def _by_utterance(self, part: Part, subnets: Sequence[Subnet]) -> list[Tensor]:
        def error(k: int, hidden: Tensor) -> Tensor:
            return torch.stack([each.sum() for each in torch.split(part.heads.errors(k, hidden), part.speech.lengths)])

        rows = part.encoder.read(subnets, self._layers, error)
        return [torch.stack(row).mean(0) for row in rows]

    def _at_once(self, calibration: CalibrationSpeech, order: Sequence[int]) -> list[list[int]]:
        """The quarter, which has utterances of all lengths, before the rest."""
        quarter = order[1::4]
        first = super()._at_once(calibration, quarter) if quarter else []
        self._parts_of_quarter = len(first)
        rest = [row for row in order if row not in set(quarter)]
        return first + super()._at_once(calibration, rest)
