"""Speech input: manifests, recordings at 16 kHz, and batches of similar length."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces import AudioError
from search_spaces.files import read_bytes, require_file
from search_spaces.network import RATE

__all__ = ["LABELS", "RATE", "Utterance", "batches", "load_audio", "read_manifest", "seconds_of"]

RATES = (1_000, 768_000)
MAX_SECONDS = 7_200.0
MAX_CHANNELS = 64
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
    """The utterances of a JSON-lines manifest or a corpus, in order; with `split`, only those of this split.

    A line needs `audio` (relative to the manifest) and `seconds`; `id`, `split` and the labels in `LABELS` are
    optional, other keys are ignored. The corpora that are read as well: `supernet.corpora`. Raises `AudioError` naming
    the first invalid line.
    """
    from supernet.corpora import read_corpus

    path = Path(path)
    utterances = read_corpus(path)
    if utterances is None:
        utterances = [_utterance(path, number, line) for number, line in enumerate(_lines(path), 1) if line.strip()]
    chosen = [u for u in utterances if split is None or u.split == split]
    if not chosen:
        splits = sorted({str(u.split) for u in utterances})
        problem = f"no utterance of split '{split}'; splits: {', '.join(splits)}" if utterances else "no utterance"
        raise AudioError(f"manifest {path} has {problem}")
    _check_ids(path, chosen)
    return chosen


def _lines(path: Path) -> list[str]:
    """Lines end with line feeds alone: JSON strings may hold other separators (U+2028, U+0085)."""
    try:
        return read_bytes(path).decode("utf-8-sig").split("\n")
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
        if not isinstance(record, dict):
            raise ValueError(f"it is a {type(record).__name__}")
        audio, seconds = record["audio"], record["seconds"]
    except (ValueError, KeyError, RecursionError) as error:
        raise AudioError(
            f'{path}, line {number}: needs JSON with "audio" and "seconds"; {type(error).__name__}: {error}'
        ) from None
    try:
        _check(_is_path(audio), "audio", "the path of a recording", audio)
        duration = _number(seconds)
        _check(0 < duration <= MAX_SECONDS, "seconds", f"a number in 0..{MAX_SECONDS:g}", seconds)
        name = record.get("id", audio)
        _check(isinstance(name, (str, int)) and not isinstance(name, bool), "id", "text or a whole number", name)
        labels = {key: _label(key, record.get(key)) for key in ("split", *LABELS) if key != "turns"}
    except ValueError as error:
        raise AudioError(f"{path}, line {number}: {error}") from None
    return Utterance(str(name), path.parent / audio, duration, turns=record.get("turns"), **labels)


def _is_path(value: object) -> bool:
    """Text that a file system can hold: JSON may have lone surrogates."""
    return isinstance(value, str) and bool(value) and "\0" not in value and _encodable(value)


def _encodable(text: str) -> bool:
    try:
        return bool(os.fsencode(text))
    except UnicodeEncodeError:
        return False


def _number(value: object) -> float:
    """A number, also as text; NaN for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _check(valid: bool, key: str, rule: str, value: object) -> None:
    if not valid:
        raise ValueError(f'"{key}" must be {rule}; got {value!r:.80}')


def _label(key: str, value: object) -> str | None:
    """A label as text; only null and absent ones are missing: 0, false and "" are labels."""
    if value is None or isinstance(value, str):
        return value
    finite = isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))
    _check(finite, key, "text, a finite number, true, false or null", value)
    return json.dumps(value)


def load_audio(path: Path | str, min_samples: int = 400, max_seconds: float | None = None) -> Samples:
    """Samples (S,) of a recording at 16 kHz: channels averaged, other rates resampled (soxr, high quality).

    `min_samples`: the length of one frame, 400 for HuBERT's front end. `max_seconds`: read no more than that. Raises
    `AudioError` for files that are missing, not audio, too short or too long, or contain NaN or infinite samples.
    """
    import soundfile

    info = _header(path)
    frames = -1 if max_seconds is None else math.ceil(max_seconds * info.samplerate)
    try:
        samples, rate = soundfile.read(path, frames=frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError, MemoryError) as error:
        raise AudioError(f"cannot read audio {path}: {str(error).rstrip('.')}") from None
    mono: Samples = samples.mean(axis=1)
    if rate != RATE:
        import soxr

        mono = soxr.resample(mono, rate, RATE, quality="HQ")
    if len(mono) < min_samples:
        raise AudioError(f"{path} has {len(mono)} samples at 16 kHz; one frame needs {min_samples}")
    if not np.isfinite(mono).all():
        raise AudioError(f"{path} contains samples that are not finite")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _header(path: Path | str) -> Any:
    """soundfile's info of a recording; refused if its rate, channels or length cannot be those of speech."""
    import soundfile

    try:
        require_file(path)
        info = soundfile.info(path)
    except FileNotFoundError:
        raise AudioError(f"cannot read audio {path}: no such file") from None
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"cannot read audio {path}: {reason.rstrip('.')}") from None
    low, high = RATES
    if not low <= info.samplerate <= high:
        raise AudioError(f"{path} has a sample rate of {info.samplerate} Hz; supported: {low} to {high}")
    if info.channels > MAX_CHANNELS or info.frames > MAX_SECONDS * info.samplerate:
        raise AudioError(
            f"{path} claims {info.frames / info.samplerate:,.0f} s in {info.channels} channels; supported: "
            f"{MAX_SECONDS:g} s in {MAX_CHANNELS}: split the recording"
        )
    return info


def seconds_of(path: Path | str) -> float:
    """The duration of a recording, from its header."""
    return float(_header(path).duration)


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
