"""Speech input: manifests, recordings at 16 kHz, and batches of similar length."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from search_spaces import AudioError

__all__ = ["LABELS", "RATE", "Utterance", "batches", "load_audio", "normalise", "read_manifest", "seconds_of"]

RATE = 16_000
LABELS = ("speaker", "language", "text", "phones", "keyword", "intent", "emotion", "turns")
Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a manifest. `audio` includes the manifest's folder; labels that the line lacks are None.

    `turns`: a list of [start, end, speaker], times in seconds; not validated here.
    """

    id: str
    audio: Path
    seconds: float
    split: str | None = None
    speaker: str | None = None
    language: str | None = None
    text: str | None = None
    phones: str | None = None
    keyword: str | None = None
    intent: str | None = None
    emotion: str | None = None
    turns: list[object] | None = None


def read_manifest(path: Path | str, split: str | None = None) -> list[Utterance]:
    """The utterances of a JSON-lines manifest, in order; with `split`, only those of this split.

    A line needs `audio` (relative to the manifest) and `seconds`; `id`, `split` and the labels in `LABELS` are
    optional, other keys are ignored. Raises `AudioError` naming the first invalid line.
    """
    path = Path(path)
    utterances = [_utterance(path, number, line) for number, line in enumerate(_lines(path), 1) if line.strip()]
    chosen = [u for u in utterances if split is None or u.split == split]
    if not chosen:
        splits = sorted({str(u.split) for u in utterances})
        problem = f"no utterance of split '{split}'; splits: {', '.join(splits)}" if utterances else "no utterance"
        raise AudioError(f"manifest {path} has {problem}")
    _check_ids(path, chosen)
    return chosen


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise AudioError(f"cannot read manifest {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise AudioError(f"cannot read manifest {path}: {error}") from None


def _check_ids(path: Path, utterances: Sequence[Utterance]) -> None:
    seen: set[str] = set()
    for utterance in utterances:
        if utterance.id in seen:
            raise AudioError(f"manifest {path} names '{utterance.id}' twice; ids must be unique")
        seen.add(utterance.id)


def _utterance(path: Path, number: int, line: str) -> Utterance:
    try:
        record = json.loads(line)
        audio, seconds = str(record["audio"]), float(record["seconds"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise AudioError(
            f'{path}, line {number}: needs JSON with "audio" and "seconds"; {type(error).__name__}: {error}'
        ) from None
    labels = {key: record.get(key) for key in ("split", *LABELS)}
    return Utterance(str(record.get("id", audio)), path.parent / audio, seconds, **labels)


def load_audio(path: Path | str, min_samples: int = 400) -> Samples:
    """Samples (S,) of a recording at 16 kHz: channels averaged, other rates resampled (soxr, high quality).

    `min_samples`: the length of one frame, 400 for HuBERT's front end.
    Raises `AudioError` for files that are missing, not audio, too short, or contain NaN or infinite samples.
    """
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        reason = "no such file" if not Path(path).exists() else str(error).rstrip(".")
        raise AudioError(f"cannot read audio {path}: {reason}") from None
    mono: Samples = samples.mean(axis=1)
    if rate != RATE:
        import soxr

        mono = soxr.resample(mono, rate, RATE, quality="HQ")
    if len(mono) < min_samples:
        raise AudioError(f"{path} has {len(mono)} samples at 16 kHz; one frame needs {min_samples}")
    if not np.isfinite(mono).all():
        raise AudioError(f"{path} contains samples that are not finite")
    return np.ascontiguousarray(mono, dtype=np.float32)


def seconds_of(path: Path | str) -> float:
    """The duration of a recording, from its header."""
    import soundfile

    try:
        return float(soundfile.info(path).duration)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise AudioError(f"cannot read audio {path}: {str(error).rstrip('.')}") from None


def normalise(samples: Samples, eps: float = 1e-5) -> Samples:
    """`samples` with mean 0 and variance 1, as in HuBERT's training (s3prl: a layer norm of the waveform)."""
    centred = samples - samples.mean(dtype=np.float64)
    normalised: Samples = (centred / np.sqrt((centred**2).mean(dtype=np.float64) + eps)).astype(np.float32)
    return normalised


def batches(
    seconds: Sequence[float], batch_seconds: float, rng: np.random.Generator | None = None, jitter: float = 0.1
) -> Iterator[list[int]]:
    """Indices in batches of similar length: at most `batch_seconds` each, padding included, or a single utterance.

    With `rng`, lengths are jittered by a factor of up to exp(`jitter`) before sorting, and the batches are shuffled, so
    that epochs differ. Without it, batches are in order of length, shortest first.
    """
    length = np.asarray(seconds, dtype=np.float64)
    jittered = length if rng is None else length * np.exp(rng.uniform(-jitter, jitter, len(length)))
    order = np.argsort(jittered, kind="stable")
    groups: list[list[int]] = [[]]
    longest = 0.0
    for index in order.tolist():
        longest = max(longest, float(length[index]))
        if groups[-1] and longest * (len(groups[-1]) + 1) > batch_seconds:
            groups.append([])
            longest = float(length[index])
        groups[-1].append(index)
    if not groups[-1]:
        return
    for group in range(len(groups)) if rng is None else rng.permutation(len(groups)):
        yield groups[group]
