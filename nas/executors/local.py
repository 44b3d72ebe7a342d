"""Scores subnets in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from nas.runs.ledger import Evaluation
from search_spaces import NasError, Subnet

__all__ = ["LocalExecutor", "Outcome", "one_line"]

T = TypeVar("T")


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
    """Calls `score` on whole batches (list of subnets -> one number for each), or on each subnet alone.

    If a batch raises, its subnets are scored one by one, so that only the faulty ones fail. A score of one subnet is
    recognised as long as no list could be scored: it raises for a list, or gives one number for it, and it gives a
    number for a subnet. KeyboardInterrupt is never caught.
    """

    def __init__(self, score: Callable[[list[Subnet]], Sequence[Any]] | Callable[[Subnet], Any]) -> None:
        self.score: Callable[..., Any] = score
        self._of_one: bool | None = None  # whether it is a score of one subnet, once that is known

    def run(self, subnets: Sequence[Subnet], best: Evaluation | None = None) -> Iterator[list[Outcome]]:
        """Outcomes in the order of `subnets`, in the chunks in which they become known.

        `best` is the evaluation to compare with, for scores that can rule out.
        """
        if not subnets:
            return
        if self._of_one:
            for subnet in subnets:
                yield [self._alone(subnet)]
            return
        try:
            outcomes = self._scored(subnets, best)
            self._of_one = False
        except _ScoreError as error:
            if len(subnets) > 1:
                for subnet in subnets:
                    yield from self.run([subnet], best)
                return
            outcomes = [self._failed(subnets[0], error)]
        yield outcomes

    def _scored(self, subnets: Sequence[Subnet], best: Evaluation | None) -> list[Outcome]:
        values, seconds = _timed(lambda: list(self._called(list(subnets), best)))
        if len(values) != len(subnets):
            raise NasError(f"a score must give one number for each subnet; got {len(values)} for {len(subnets)}")
        compared = best is not None
        return [_outcome(value, seconds / len(subnets), compared) for value in values]

    def _called(self, subnets: list[Subnet], best: Evaluation | None) -> Sequence[Any]:
        if best is None:
            return cast(Sequence[Any], self.score(subnets))
        return cast(Any, self.score).against(subnets, best.subnet, best.score)  # type: ignore[no-any-return]

    def _failed(self, subnet: Subnet, error: _ScoreError) -> Outcome:
        """The outcome of a subnet whose list was not scored; that of the subnet alone, if the score takes one."""
        if self._of_one is None:
            try:
                value, seconds = _timed(lambda: self.score(subnet))
            except _ScoreError as alone:
                if "'list'" in str(error):  # 'list' object has no attribute ...: it may want one subnet
                    return Outcome(None, f"{alone} (and for a list: {error})", error.seconds)
            else:
                self._of_one = _number(value) is not None or None
                return _outcome(value, seconds, compared=False)
        return Outcome(None, str(error), error.seconds)

    def _alone(self, subnet: Subnet) -> Outcome:
        try:
            value, seconds = _timed(lambda: self.score(subnet))
        except _ScoreError as error:
            return Outcome(None, str(error), error.seconds)
        return _outcome(value, seconds, compared=False)


def _timed(score: Callable[[], T]) -> tuple[T, float]:
    """The result and the seconds it took. Any exception of a user's score is a `_ScoreError`: the search goes on."""
    start = time.perf_counter()
    try:
        return score(), time.perf_counter() - start
    except Exception as error:
        raise _ScoreError(one_line(error), time.perf_counter() - start) from error


class _ScoreError(Exception):
    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def _outcome(value: Any, seconds: float, compared: bool) -> Outcome:
    """`compared`: `value` is a pair, the score and whether the subnet is ruled out."""
    ruled_out = False
    if compared and isinstance(value, tuple) and len(value) == 2:
        value, ruled_out = value[0], bool(value[1])
    score = _number(value)
    if score is None:
        return Outcome(None, f"score is not a number but {type(value).__name__}", seconds)
    if not math.isfinite(score):
        return Outcome(None, f"score is {'NaN' if math.isnan(score) else 'infinite'}", seconds)
    return Outcome(score, None, seconds, ruled_out)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # the last from a tensor of several numbers
        return None
    except OverflowError:
        return math.inf


def one_line(error: BaseException) -> str:
    """The type and the first line of an error, at most 200 characters."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:200].removesuffix(": ")
