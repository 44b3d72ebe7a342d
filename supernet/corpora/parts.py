"""Parts of recordings, and recordings inside of tables, as files: what each utterance of a corpus must have.

They are kept in the cache folder under a name made of their content's origin, and written once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from search_spaces import AudioError
from search_spaces.files import cache_folder, replacing, write_bytes
from supernet.audio import LABELS, MAX_SECONDS, Utterance, seconds_of

__all__ = ["SPLITS", "content_file", "labels_of", "part_file", "placed", "split_of", "utterance"]

SPLITS = {"train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test", "eval": "test"}
"""Names of splits, as ours."""
_ALSO = {"transcription": "text", "transcript": "text", "sentence": "text", "speaker_id": "speaker"}
_WHOLE = 0.02  # seconds at an end that are no reason to cut a recording


def split_of(name: str) -> str | None:
    """Our name of the split in a file's or folder's name, such as "dev" for "cuts_valid.jsonl.gz"; None without one."""
    words = name.lower().replace("-", "_").replace(".", "_").split("_")
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def labels_of(row: Mapping[str, object]) -> dict[str, str]:
    """The labels in a row of a table, under our names; numbers and booleans as text."""
    named = {_ALSO.get(key, key): value for key, value in row.items()}
    return {key: str(named[key]) for key in LABELS if key != "turns" and isinstance(named.get(key), (str, int, float))}


def placed(name: str, near: Iterable[Path]) -> Path:
    """The recording of this path, which may be relative to any of the folders `near`."""
    return next((file for folder in near if (file := folder / name).is_file()), next(iter(near)) / name)


def utterance(
    source: str,
    name: str,
    audio: Path,
    start: float = 0.0,
    end: float | None = None,
    seconds: float | None = None,
    split: str | None = None,
    turns: list[object] | None = None,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Utterance:
    """The utterance of a recording, or of a part of it, which is then cut out.

    `source`: the file that says so, for messages. `seconds`: the length of the recording, read from it if not known.
    Raises `AudioError` for times that cannot be.
    """
    whole = seconds_of(audio) if seconds is None else seconds
    last = whole if end is None else end
    if not (0 <= start < last <= whole + 1.0) or not 0 < last - start <= MAX_SECONDS:
        raise AudioError(f"{source}: '{name}' goes from {start:g} to {last:g} s of {audio}, which has {whole:g} s")
    if start > _WHOLE or last < whole - _WHOLE:
        audio, whole = part_file(audio, start, min(last, whole)), min(last, whole) - start
    return Utterance(name, audio, whole, split, turns=turns, **labels)


def part_file(audio: Path, start: float, end: float) -> Path:
    """The file of a part of a recording, at its own rate and depth."""
    import soundfile

    state = audio.stat()
    file = _file(f"{audio.absolute()} {state.st_size} {state.st_mtime_ns} {start:.6f} {end:.6f}", ".wav")
    if not file.exists():
        try:
            with soundfile.SoundFile(audio) as recording:
                exact = recording.subtype in ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")
                recording.seek(min(round(start * recording.samplerate), recording.frames))
                count = math.ceil((end - start) * recording.samplerate)
                samples = recording.read(count, dtype="int16" if exact else "float32", always_2d=True)
                rate = recording.samplerate
            with replacing(file, shared=True) as temporary:
                subtype = "PCM_16" if exact else "FLOAT"
                soundfile.write(temporary, samples, rate, subtype=subtype, format="WAV")
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise AudioError(f"cannot read audio {audio}: {str(error).rstrip('.')}") from None
    return file


def content_file(content: bytes) -> Path:
    """The file of a recording that is inside of a table, as it is."""
    file = _file(hashlib.sha256(content).hexdigest(), ".audio")
    if not file.exists():
        write_bytes(file, content, shared=True)
    return file


def _file(origin: str, suffix: str) -> Path:
    name = hashlib.sha256(origin.encode()).hexdigest()[:32]
    return cache_folder() / "speech" / name[:2] / f"{name}{suffix}"
