"""Scores subnets in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from nas.runs.ledger import Evaluation
from search_spaces import NasError, Subnet

__all__ = ["LocalExecutor", "Outcome", "one_line"]


@dataclass(frozen=True)
class Outcome:
    """The result of scoring one subnet: a finite score, or an error in one line; and the seconds it took.

    `ruled_out`: the score is an estimate, of a subnet that cannot be the best.
    """

    score: float | None
    error: str | None
    seconds: float
    ruled_out: bool = False


class LocalExecutor:
    """Calls `score` (list of subnets -> one number for each) on whole batches.

    If a batch raises, its subnets are scored one by one, so that only the faulty ones fail. KeyboardInterrupt is
    never caught.
    """

    def __init__(self, score: Callable[[list[Subnet]], Sequence[Any]]) -> None:
        self.score = score

    def run(self, subnets: Sequence[Subnet], best: Evaluation | None = None) -> Iterator[list[Outcome]]:
        """Outcomes in the order of `subnets`, in the chunks in which they become known.

        `best` is the evaluation to compare with, for scores that can rule out.
        """
        if not subnets:
            return
        try:
            yield self._scored(subnets, best)
            return
        except _ScoreError as error:
            if len(subnets) == 1:
                yield [Outcome(None, str(error), error.seconds)]
                return
        for subnet in subnets:
            yield from self.run([subnet], best)

    def _scored(self, subnets: Sequence[Subnet], best: Evaluation | None) -> list[Outcome]:
        start = time.perf_counter()
        try:
            values = list(self._called(list(subnets), best))
        except Exception as error:  # any exception of a user's score is recorded, and the search continues
            raise _ScoreError(one_line(error), time.perf_counter() - start) from error
        seconds = (time.perf_counter() - start) / len(subnets)
        if len(values) != len(subnets):
            raise NasError(f"a score must give one number for each subnet; got {len(values)} for {len(subnets)}")
        compared = best is not None
        return [_outcome(value, seconds, compared) for value in values]

    def _called(self, subnets: list[Subnet], best: Evaluation | None) -> Sequence[Any]:
        if best is None:
            return self.score(subnets)
        return cast(Any, self.score).against(subnets, best.subnet, best.score)  # type: ignore[no-any-return]


class _ScoreError(Exception):
    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def _outcome(value: Any, seconds: float, compared: bool) -> Outcome:
    """`compared`: `value` is a pair, the score and whether the subnet is ruled out."""
    ruled_out = False
    if compared and isinstance(value, tuple) and len(value) == 2:
        value, ruled_out = value[0], bool(value[1])
    try:
        score = float(value)
    except (TypeError, ValueError):
        return Outcome(None, f"score is not a number but {type(value).__name__}", seconds)
    except OverflowError:
        score = math.inf
    if not math.isfinite(score):
        return Outcome(None, f"score is {'NaN' if math.isnan(score) else 'infinite'}", seconds)
    return Outcome(score, None, seconds, ruled_out)


def one_line(error: BaseException) -> str:
    """The type and the first line of an error, at most 200 characters."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:200].removesuffix(": ")
