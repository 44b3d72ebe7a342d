"""Folders that `save_to_disk` of Hugging Face's datasets writes: tables with an audio column, read by datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from search_spaces import AudioError
from search_spaces.text import first_line
from supernet.audio import Utterance
from supernet.corpora.parts import content_file, labels_of, placed, split_of, utterance

__all__ = ["read_arrow"]


def read_arrow(path: Path) -> list[Utterance]:
    """The utterances of a saved dataset, or of a saved dict of splits. soundfile decodes the audio, not datasets."""
    try:
        import datasets
    except ImportError:
        raise AudioError(
            f"{path} is a saved dataset, and needs datasets: pip install 'lighthubert-nas[datasets]'"
        ) from None
    try:
        loaded = datasets.load_from_disk(str(path))
        splits = loaded if isinstance(loaded, Mapping) else {path.name: loaded}
        return [each for name, table in splits.items() for each in _of_table(path, name, table, datasets)]
    except AudioError:
        raise
    except Exception as error:  # of datasets, and of pyarrow
        raise AudioError(f"cannot read {path}: {first_line(error)[:160]}") from None


def _of_table(path: Path, split: str, table: Any, datasets: Any) -> Iterable[Utterance]:
    columns = [name for name, kind in table.features.items() if isinstance(kind, datasets.Audio)]
    if len(columns) != 1:
        raise AudioError(f"{path} must have one audio column; got {', '.join(columns) or 'none'}")
    classes = {name: kind for name, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)}
    plain = table.with_format(None).cast_column(columns[0], datasets.Audio(decode=False))
    for number, row in enumerate(plain):
        audio = row[columns[0]]
        if audio is None:
            raise AudioError(f"{path}: row {number} of {split} has no audio")
        file = content_file(audio["bytes"]) if audio["bytes"] else placed(str(audio["path"]), (path, Path.cwd()))
        values = {**row, **{name: kind.int2str(row[name]) for name, kind in classes.items() if row[name] is not None}}
        name = row.get("id")
        unique = f"{split}-{number}" if name is None else str(name)
        yield utterance(str(path), unique, file, split=split_of(split), labels=labels_of(values))
