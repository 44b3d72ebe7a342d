"""Audio folders of Hugging Face's datasets: recordings beside a metadata.csv or metadata.jsonl with their `file_name`.

https://huggingface.co/docs/datasets/audio_dataset. Read as text, in place: datasets would copy all of it first.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from search_spaces import AudioError
from search_spaces.files import read_text
from supernet.audio import Utterance
from supernet.corpora.parts import labels_of, split_of, utterance

__all__ = ["read_audio_folder"]

_NAMES = ("metadata.csv", "metadata.jsonl")


def read_audio_folder(path: Path) -> list[Utterance]:
    """The utterances of the folder, or of the folders in it, which are its splits."""
    files = [file for name in _NAMES for file in (path / name, *sorted(path.glob(f"*/{name}"))) if file.is_file()]
    return [_utterance(path, file, row) for file in files for row in _rows(file)]


def _rows(file: Path) -> list[Mapping[str, object]]:
    text = read_text(file)
    try:
        if file.suffix == ".csv":
            return list(csv.DictReader(text.splitlines(), strict=True))
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (csv.Error, ValueError, RecursionError) as error:
        raise AudioError(f"cannot read {file}: {error}") from None
    if not all(isinstance(row, dict) for row in rows):
        raise AudioError(f"{file} must hold one JSON object a line")
    return rows


def _utterance(path: Path, file: Path, row: Mapping[str, object]) -> Utterance:
    name = row.get("file_name")
    if not isinstance(name, str) or not name or "\0" in name:
        raise AudioError(f"{file}: each row needs a file_name; got {name!r:.80}")
    audio = file.parent / name
    if not audio.is_relative_to(path):
        raise AudioError(f"{file}: a file_name must be relative to its folder; got {name!r:.80}")
    inside = audio.relative_to(path)  # a split is a column, or the folder
    split = split_of(str(row.get("split") or inside.parts[0]))
    return utterance(str(file), inside.as_posix(), audio, split=split, labels=labels_of(row))
