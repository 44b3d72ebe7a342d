"""Kaldi's data folders: https://kaldi-asr.org/doc/data_prep.html. Plain text; pipes in wav.scp are never run."""

from __future__ import annotations

from pathlib import Path

from search_spaces import AudioError
from search_spaces.files import read_text
from supernet.audio import Utterance, seconds_of
from supernet.corpora.parts import placed, split_of, utterance

__all__ = ["read_kaldi"]


def read_kaldi(path: Path) -> list[Utterance]:
    """The utterances of a data folder, or of the data folders in `path`, whose names may be splits.

    wav.scp has the recordings, segments their parts, text and utt2spk the labels. Paths are relative to the data
    folder, to the folder above it, or to the working directory.
    """
    folders = [path] if (path / "wav.scp").is_file() else sorted(file.parent for file in path.glob("*/wav.scp"))
    return [utterance for folder in folders for utterance in _of_folder(folder)]


def _of_folder(folder: Path) -> list[Utterance]:
    recordings = {name: _recording(folder, name, value) for name, value in _table(folder, "wav.scp").items()}
    optional = {
        name: _table(folder, name) for name in ("segments", "text", "utt2spk") if (folder / name).is_file()
    }  # fmt: skip
    split = split_of(folder.name)
    seconds = {name: seconds_of(audio) for name, audio in recordings.items()}
    utterances = []
    for name, value in optional.get("segments", dict.fromkeys(recordings, "")).items():
        recording, start, end = _part(folder, name, value) if value else (name, 0.0, None)
        if recording not in recordings:
            raise AudioError(f"{folder / 'segments'}: '{name}' is of '{recording}', which is not in wav.scp")
        labels = {
            label: optional[file][name]
            for label, file in (("text", "text"), ("speaker", "utt2spk"))
            if name in optional.get(file, {})
        }
        audio, source = recordings[recording], str(folder / "segments")
        utterances.append(utterance(source, name, audio, start, end, seconds[recording], split, labels=labels))
    return utterances


def _table(folder: Path, name: str) -> dict[str, str]:
    """Lines of a key and the rest."""
    rows: dict[str, str] = {}
    for number, line in enumerate(read_text(folder / name).split("\n"), 1):
        key, _, rest = line.strip().partition(" ")
        if not key:
            continue
        if key in rows or (not rest.strip() and name != "text"):
            raise AudioError(f"{folder / name}, line {number}: needs a name of its own and a value; got {line!r:.80}")
        rows[key] = rest.strip()
    return rows


def _recording(folder: Path, name: str, value: str) -> Path:
    if value.endswith("|") or value.startswith(("|", "-")):
        raise AudioError(
            f"{folder / 'wav.scp'}: '{name}' is a command ({value!r:.80}), which is never run: write its output to a "
            "file, as wav-copy does, and name that"
        )
    if "\0" in value:
        raise AudioError(f"{folder / 'wav.scp'}: '{name}' must be the path of a recording; got {value!r:.80}")
    return placed(value, (folder, folder.parent, Path.cwd()))


def _part(folder: Path, name: str, value: str) -> tuple[str, float, float | None]:
    """The recording, start and end of a segment; an end of -1 is that of the recording."""
    words = value.split()
    try:
        recording, start, end = words[0], float(words[1]), float(words[2])
    except (IndexError, ValueError):
        raise AudioError(
            f"{folder / 'segments'}: '{name}' needs a recording, a start and an end; got {value!r:.80}"
        ) from None
    return recording, start, None if end == -1 else end
