"""Figures of predictions, with 95 % intervals from a bootstrap over utterances.

Metrics are scikit-learn's (detection error), jiwer's (edit distances) and pyannote's (diarization); averages over seeds
are taken within each resample, so that an interval is that of the mean over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evaluators.tasks.data import Turn
from search_spaces import NasError
from search_spaces.types import Array, JsonObject

__all__ = [
    "accuracy",
    "detection",
    "diarization_error",
    "edit_rates",
    "edits",
    "equal_error_rate",
    "paired",
    "pooled_rate",
    "tie_broken",
]

_RESAMPLES = 1000
_RESAMPLES_OF_TRIALS = 200


def accuracy(right: Array) -> JsonObject:
    """Accuracy of `right` (seeds, N): true if the class is right."""
    right = np.asarray(right, dtype=np.float64)
    return {"accuracy": _measured(lambda counts: right @ counts / counts.sum(), right.shape[1], _RESAMPLES)}


def edit_rates(references: Sequence[str], hypotheses: Sequence[Sequence[str]]) -> JsonObject:
    """Character and word error rates of hypotheses (seeds, N): edits over reference length, all utterances together."""
    counted = [[edits(*pair) for pair in zip(references, message, strict=True)] for message in hypotheses]
    result = {}
    for name in ("cer", "wer"):
        wrong = np.array([[float(each[name][0]) for each in message] for message in counted])
        lengths = np.array([float(each[name][1]) for each in counted[0]])

        def rates(counts: Array, wrong: Array = wrong, lengths: Array = lengths) -> Array:
            return np.asarray(wrong @ counts / (lengths @ counts))

        result[name] = _measured(rates, len(references), _RESAMPLES)
    return result


def edits(truth: str, guess: str) -> dict[str, tuple[int, int]]:
    """Edits from `guess` to `truth`, and the length of `truth`, in words ("wer") and characters ("cer")."""
    try:
        import jiwer
    except ImportError:
        raise NasError("error rates need jiwer: pip install 'lighthubert-nas[tasks]'") from None
    result = {}
    for name, process in (("cer", jiwer.process_characters), ("wer", jiwer.process_words)):
        outcome = process(truth, guess)
        wrong = outcome.substitutions + outcome.deletions
        result[name] = (wrong + outcome.insertions, wrong + outcome.hits)
    return result


def pooled_rate(above: Array, below: Array) -> JsonObject:
    """sum(above) / sum(below) over recordings (N,), with its interval."""
    return _of_one(lambda counts: counts @ above / (counts @ below), len(above))


def paired(above: Array, below: Array, other_above: Array, other_below: Array) -> JsonObject:
    """The first pooled rate minus the second, of the same recordings, which are drawn jointly for the interval."""
    return _of_one(
        lambda counts: counts @ above / (counts @ below) - counts @ other_above / (counts @ other_below), len(above)
    )


def _of_one(statistic: Callable[[Array], float], recordings: int) -> JsonObject:
    """What `_measured` gives for a statistic without seeds."""
    measured = _measured(lambda counts: np.array([statistic(counts)]), recordings, _RESAMPLES)
    del measured["by_seed"]
    return measured


def detection(same: Array, scores: Array, pairs: Array, utterances: int) -> JsonObject:
    """Equal error rate and minimal detection cost of `scores` (seeds, trials); `same` (trials,) is the truth.

    `pairs` (trials, 2) are the utterances of each trial: one drawn twice counts its trials twice. minDCF as
    VoxCeleb's: P(target) 0.05, both costs 1, normalised by the best constant answer.
    """
    result: JsonObject = {}
    for name, statistic in (("eer", _eer), ("min_dcf", _min_dcf)):

        def each(counts: Array, statistic: Callable[[Array, Array], float] = statistic) -> Array:
            weights = counts[pairs[:, 0]] * counts[pairs[:, 1]]
            kept = weights > 0
            if len(set(same[kept].tolist())) < 2:
                return np.full(len(scores), np.nan)
            return np.array([statistic(*_errors(same[kept], row[kept], weights[kept])) for row in scores])

        result[name] = _measured(each, utterances, _RESAMPLES_OF_TRIALS)
    return result


def diarization_error(
    truth: Sequence[Sequence[Turn]], predicted: Sequence[Sequence[Sequence[Turn]]], seconds: Sequence[float]
) -> JsonObject:
    """Diarization error rate of `predicted` (seeds, N): missed, false and confused over all speech, pooled.

    Overlaps count, no collar is left out; `seconds` (N,) is how long the recordings are.
    """
    try:
        from pyannote.core import Annotation, Segment, Timeline
        from pyannote.metrics.diarization import DiarizationErrorRate
    except ImportError:
        raise NasError("diarization needs pyannote.metrics: pip install 'lighthubert-nas[tasks]'") from None

    def annotation(turns: Sequence[Turn]) -> Any:
        result = Annotation()
        for i, (start, end, speaker) in enumerate(turns):
            result[Segment(start, end), i] = speaker
        return result

    metric, parts = DiarizationErrorRate(), ("missed detection", "false alarm", "confusion")
    errors, totals = np.zeros((len(parts), len(predicted), len(truth))), np.zeros(len(truth))
    for seed, of_seed in enumerate(predicted):
        for i, (known, guess, length) in enumerate(zip(truth, of_seed, seconds, strict=True)):
            whole = Timeline([Segment(0, length)])
            result = metric(annotation(known), annotation(guess), uem=whole, detailed=True)
            errors[:, seed, i] = [result[part] for part in parts]
            totals[i] = result["total"]

    def rates(counts: Array, errors: Array) -> Array:
        return np.asarray(errors @ counts / (totals @ counts))

    measured = {"der": _measured(lambda counts: rates(counts, errors.sum(0)), len(truth), _RESAMPLES)}
    each = {part.split()[0]: float(rates(np.ones(len(truth)), row).mean()) for part, row in zip(parts, errors)}
    return {**measured, "of_which": {part: round(value, 5) for part, value in each.items()}}


def tie_broken(figure: float, loss: float) -> float:
    """A figure on dev, and of equal ones that of the smaller loss: rates stay where they are for long at first."""
    return figure - 1e-6 * min(loss, 100.0)


def equal_error_rate(same: Array, scores: Array) -> float:
    """The rate at which as many false speakers pass as true ones are refused."""
    return _eer(*_errors(same, scores, np.ones(len(same))))


def _errors(same: Array, scores: Array, weights: Array) -> tuple[Array, Array]:
    """False alarm and miss rates at every threshold."""
    try:
        from sklearn.metrics import det_curve
    except ImportError:
        raise NasError("verification needs scikit-learn: pip install 'lighthubert-nas[tasks]'") from None
    false_alarms, misses, _ = det_curve(same, scores, sample_weight=weights)
    return false_alarms, misses


def _eer(false_alarms: Array, misses: Array) -> float:
    """The rate at which both are equal, interpolated between the two thresholds around it."""
    gap = misses - false_alarms  # rises with the threshold
    after = int(np.searchsorted(gap, 0.0))
    if after == 0 or after == len(gap):
        at = min(after, len(gap) - 1)
        return float((false_alarms[at] + misses[at]) / 2)
    part = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(misses[after - 1] + part * (misses[after] - misses[after - 1]))


def _min_dcf(false_alarms: Array, misses: Array, target: float = 0.05) -> float:
    constant = min(target, 1 - target)
    return float(min((target * misses + (1 - target) * false_alarms).min(), constant) / constant)


def _measured(statistic: Callable[[Array], Array], utterances: int, resamples: int) -> JsonObject:
    """`statistic` takes how often each utterance counts, and gives one number for each seed."""
    rng = np.random.default_rng(0)
    by_seed = statistic(np.ones(utterances))
    draws = rng.multinomial(utterances, np.full(utterances, 1 / utterances), resamples).astype(np.float64)
    drawn = np.array([statistic(counts).mean() for counts in draws])
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {
        "value": round(float(by_seed.mean()), 5),
        "low": round(float(low), 5),
        "high": round(float(high), 5),
        "by_seed": [round(float(value), 5) for value in by_seed],
    }
