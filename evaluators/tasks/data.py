"""Labelled speech as people have it on disk: our manifests, LibriSpeech, Speech Commands v1, VoxCeleb1, Fluent Speech
Commands, and the corpora of other toolkits that are read wherever a manifest is.

Read in place. Errors are one line, before anything is computed.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from search_spaces import AudioError
from search_spaces.files import read_text, require_file
from supernet.audio import LABELS, read_manifest
from supernet.corpora import CORPORA, corpus_of

__all__ = ["Dataset", "Example", "check_classes", "check_phones", "check_text", "check_turns", "read_dataset"]

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_FIRST_PRIVATE = 0xE000  # of Unicode's private letters
_SPLITS = ("train", "dev", "test")
_VOX_SPLITS = {"1": "train", "2": "dev", "3": "test"}
Trial = tuple[str, str, bool]
Turn = tuple[float, float, str]  # start and end in seconds, speaker


@dataclass(frozen=True, slots=True)
class Example:
    """One recording. `label` is a class, the text of a transcription task, or turns as JSON; `labelled`: it has one."""

    id: str
    audio: Path
    label: str
    labelled: bool = True


@dataclass(frozen=True)
class Dataset:
    """Examples that train a head, choose it and test it: `parts` "train", "dev" and "test".

    `trials`: (id, id, same speaker), if the dataset lists them. `left_out`: recordings that were not used, and why.
    """

    name: str
    parts: dict[str, list[Example]]
    trials: tuple[Trial, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def train(self) -> list[Example]:
        return self.parts["train"]

    @property
    def dev(self) -> list[Example]:
        return self.parts["dev"]

    @property
    def test(self) -> list[Example]:
        return self.parts["test"]

    @property
    def examples(self) -> list[Example]:
        return [*self.train, *self.dev, *self.test]


def read_dataset(path: Path | str, label: str, skip_missing: bool = False, trials: bool = False) -> Dataset:
    """The dataset at `path`: a JSON-lines manifest, or the folder of a corpus whose layout is known.

    `label` is one of `LABELS`. Without `skip_missing`, recordings without that label are refused; `trials` asks for
    VoxCeleb1's verification trials. Raises `AudioError` in one line, also for missing recordings.
    """
    path = Path(path)
    if label not in LABELS:
        raise AudioError(f"label must be one of {', '.join(LABELS)}; got {label!r}")
    if path.is_dir():
        layout, read = _layout(path, label)
        result = read(path, label, trials)
    else:
        layout, result = "manifest", _manifest(path, label, trials)
    if not result.examples:
        raise AudioError(f"{path} ({layout}) has no recordings with a '{label}'")
    result = _labelled(path, label, result, skip_missing)
    for part, examples in result.parts.items():
        if not examples:
            raise AudioError(f"{path} ({layout}) has no recordings of the split {part} with a '{label}'")
    _check_audio(path, result.examples)
    return result


def check_classes(path: Path | str, data: Dataset, label: str, open_set: bool = False) -> tuple[str, ...]:
    """The classes of train, sorted: at least two, and (but for `open_set`) all that dev and test have."""
    classes = sorted({example.label for example in data.train})
    if len(classes) < 2:
        raise AudioError(f"{path}: every train recording has the {label} '{classes[0]}'; a task needs two or more")
    for part, examples in () if open_set else (("dev", data.dev), ("test", data.test)):
        unseen = sorted({example.label for example in examples} - set(classes))
        if unseen:
            raise AudioError(
                f"{path}: {len(unseen)} of the {label} classes in {part} are not in train: {_some(unseen)}; "
                f"move recordings of them into train, or leave them out of {part}"
            )
    return tuple(classes)


def check_text(path: Path | str, data: Dataset, alphabet: str | None = None) -> tuple[Dataset, str]:
    """`data` with texts in lower case and single spaces, and its alphabet: the letters of the train texts.

    With `alphabet`, other letters become spaces. Without, texts of dev and test may have no others than train.
    """
    kept = None if alphabet is None else {*alphabet.casefold(), " "}

    def plain(example: Example) -> Example:
        text = example.label.casefold()
        if kept is not None:
            text = "".join(letter if letter in kept else " " for letter in text)
        return replace(example, label=" ".join(text.split()))

    parts = {part: [plain(example) for example in examples] for part, examples in data.parts.items()}
    empty = sum(not example.label for examples in parts.values() for example in examples)
    parts = {part: [example for example in examples if example.label] for part, examples in parts.items()}
    for part, examples in parts.items():
        if not examples:
            raise AudioError(f"{path}: no text of the split {part} has a letter of the alphabet '{alphabet}'")
    known = kept or {" ", *(letter for example in parts["train"] for letter in example.label)}
    for part in ("dev", "test"):
        for example in parts[part]:
            odd = sorted(set(example.label) - known)
            if odd:
                raise AudioError(
                    f"{path}: the text of '{example.id}' ({part}) has characters outside the alphabet of the train "
                    f"texts: {' '.join(odd)}; choose the letters that count (--alphabet abc…); the others become spaces"
                )
    left_out = (*data.left_out, *([f"{empty} texts without a letter of the alphabet"] if empty else []))
    return replace(data, parts=parts, left_out=left_out), "".join(sorted(known))


def check_turns(path: Path | str, data: Dataset) -> tuple[dict[str, list[Turn]], int]:
    """The turns of each recording by its id, and how many speakers a train recording has at most.

    Those of dev and test may not have more: the head has an output for each.
    """
    turns = {example.id: _turns(path, example) for example in data.examples}
    most = max(len({speaker for *_, speaker in turns[example.id]}) for example in data.train)
    if not most:
        raise AudioError(f"{path}: nobody speaks in any train recording")
    for part, examples in (("dev", data.dev), ("test", data.test)):
        for example in examples:
            if (count := len({speaker for *_, speaker in turns[example.id]})) > most:
                raise AudioError(f"{path}: '{example.id}' ({part}) has {count} speakers, and train at most {most}")
        if not any(turns[example.id] for example in examples):
            raise AudioError(f"{path}: nobody speaks in any recording of {part}")
    return turns, most


def _turns(path: Path | str, example: Example) -> list[Turn]:
    try:
        turns = [(float(start), float(end), str(speaker)) for start, end, speaker in json.loads(example.label)]
    except (ValueError, TypeError):
        raise AudioError(f"{path}: turns of '{example.id}' must be a list of [start, end, speaker]") from None
    for start, end, speaker in turns:
        if not (math.isfinite(end) and 0 <= start < end):
            raise AudioError(f"{path}: a turn of '{example.id}' goes from {start:g} to {end:g} s ({speaker})")
    return turns


def check_phones(path: Path | str, data: Dataset) -> tuple[Dataset, str, tuple[str, ...]]:
    """`data` with one private letter for each phone, those letters, and the phones they stand for.

    Labels are phones with spaces between them. Those of dev and test must be in train.
    """
    names = tuple(sorted({phone for example in data.train for phone in example.label.split()}))
    letters = {name: chr(_FIRST_PRIVATE + i) for i, name in enumerate(names)}
    unseen = sorted({p for part in (data.dev, data.test) for e in part for p in e.label.split()} - set(names))
    if unseen:
        raise AudioError(f"{path}: {len(unseen)} phones of dev and test are not in train: {_some(unseen)}")
    parts = {
        part: [replace(e, label="".join(letters[phone] for phone in e.label.split())) for e in examples]
        for part, examples in data.parts.items()
    }
    return replace(data, parts=parts), "".join(letters.values()), names


# -------------------------------------------------------------------- layouts


def _layout(folder: Path, label: str) -> tuple[str, Callable[[Path, str, bool], Dataset]]:
    """The name of the folder's layout, and its reader."""
    known: dict[str, tuple[bool, Callable[[Path, str, bool], Dataset]]] = {
        "Speech Commands v1": ((folder / "testing_list.txt").is_file(), _speech_commands),
        "VoxCeleb1": (any((folder / n).is_file() for n in ("iden_split.txt", "veri_test.txt")), _voxceleb),
        "Fluent Speech Commands": ((folder / "data" / "train_data.csv").is_file(), _fluent),
        "LibriSpeech": (any(folder.glob("train-*")), _librispeech),
        "Kaldi": (label == "turns" and (folder / "train" / "wav.scp").is_file(), _kaldi),
    }
    for name, (is_it, read) in known.items():
        if is_it:
            return name, read
    corpus = corpus_of(folder)
    if corpus is not None:
        return corpus, _manifest
    raise AudioError(
        f"{folder} has none of the layouts that can be read: LibriSpeech (train-*, dev-*, test-*), Speech Commands v1 "
        f"(testing_list.txt), VoxCeleb1 (iden_split.txt, veri_test.txt), Fluent Speech Commands (data/train_data.csv), "
        f"{', '.join(CORPORA)}; a manifest is a file"
    )


def _manifest(path: Path, label: str, trials: bool) -> Dataset:
    """Our manifests, and what is read like them (`supernet.corpora`)."""
    rows = read_manifest(path)
    parts: dict[str, list[Example]] = {split: [] for split in _SPLITS}
    for row in rows:
        value = getattr(row, label)
        text = json.dumps(value) if label == "turns" else value
        if row.split in parts:
            parts[row.split].append(Example(row.id, row.audio, text or "", labelled=value is not None))
    return Dataset(path.stem, parts)


def _librispeech(folder: Path, label: str, trials: bool) -> Dataset:
    """`train-*`, `dev-*`, `test-*` folders of speaker/chapter/*.flac with a *.trans.txt a chapter."""
    _offers("LibriSpeech", label, ("text", "speaker"))
    parts: dict[str, list[Example]] = {split: [] for split in _SPLITS}
    for split in _SPLITS:
        for file in sorted(folder.glob(f"{split}-*/*/*/*.trans.txt")):
            for line in _lines(file):
                name, _, text = line.partition(" ")
                audio = file.parent / f"{name}.flac"
                parts[split].append(Example(name, audio, text if label == "text" else file.parts[-3]))
    return Dataset("LibriSpeech", parts)


def _speech_commands(folder: Path, label: str, trials: bool) -> Dataset:
    """word/*.wav with validation_list.txt and testing_list.txt; ten commands, other words are `_unknown_`."""
    _offers("Speech Commands", label, ("keyword", "speaker"))
    held = {"dev": set(_lines(folder / "validation_list.txt")), "test": set(_lines(folder / "testing_list.txt"))}
    parts: dict[str, list[Example]] = {split: [] for split in _SPLITS}
    for file in sorted(folder.glob("[!_]*/*.wav")):
        name = file.relative_to(folder).as_posix()
        split = next((split for split, names in held.items() if name in names), "train")
        word = file.parent.name if file.parent.name in COMMANDS else "_unknown_"
        parts[split].append(Example(name, file, word if label == "keyword" else file.name.partition("_nohash_")[0]))
    return Dataset("Speech Commands v1", parts, left_out=("silence: the class made of _background_noise_",))


def _voxceleb(folder: Path, label: str, trials: bool) -> Dataset:
    """idXXXXX/video/*.wav (in `wav`, `dev/wav`, `test/wav` or the folder itself) with VoxCeleb1's lists.

    With `trials`: those of veri_test.txt, and heads are trained on the speakers that have no part in them.
    """
    _offers("VoxCeleb1", label, ("speaker",))
    roots = [root for part in ("wav", "dev/wav", "test/wav", ".") if (root := folder / part).is_dir()]

    def example(name: str) -> Example:
        audio = next((root / name for root in roots if (root / name).is_file()), roots[0] / name)
        return Example(name, audio, name.split("/")[0])

    if not trials:
        rows = _rows(folder / "iden_split.txt", 2)
        parts = {
            split: [example(name) for n, name in rows if _VOX_SPLITS.get(n) == split] for split in _VOX_SPLITS.values()
        }
        return Dataset("VoxCeleb1 identification", parts)
    listed = tuple((a, b, same == "1") for same, a, b in _rows(folder / "veri_test.txt", 3))
    test = [example(name) for name in dict.fromkeys(name for a, b, _ in listed for name in (a, b))]
    speakers = {each.label for each in test}
    names = sorted({file.relative_to(root).as_posix() for root in roots for file in root.glob("id*/*/*.wav")})
    others = [example(name) for name in names if name.split("/")[0] not in speakers]
    return Dataset(
        "VoxCeleb1 verification",
        {
            "train": [each for i, each in enumerate(others) if i % 20 > 1],
            "dev": [each for i, each in enumerate(others) if i % 20 < 2],
            "test": test,
        },
        listed,
    )


def _fluent(folder: Path, label: str, trials: bool) -> Dataset:
    """data/{train,valid,test}_data.csv; an intent is action/object/location."""
    _offers("Fluent Speech Commands", label, ("intent", "text", "speaker"))
    parts = {}
    for split, stem in zip(_SPLITS, ("train", "valid", "test"), strict=True):
        file = folder / "data" / f"{stem}_data.csv"
        try:
            require_file(file)
            with file.open(newline="", encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
            values = {
                "intent": ["/".join(row[key] for key in ("action", "object", "location")) for row in rows],
                "text": [row["transcription"] for row in rows],
                "speaker": [row["speakerId"] for row in rows],
            }[label]
            parts[split] = [Example(row["path"], folder / row["path"], v) for row, v in zip(rows, values, strict=True)]
        except (OSError, UnicodeDecodeError) as error:
            raise AudioError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
        except (KeyError, TypeError) as error:
            raise AudioError(f"{file} lacks the column {error}") from None
    return Dataset("Fluent Speech Commands", parts)


def _kaldi(folder: Path, label: str, trials: bool) -> Dataset:
    """train, dev and test with wav.scp, segments and utt2spk, as SUPERB prepares LibriMix for diarization."""
    _offers("Kaldi", label, ("turns",))
    parts: dict[str, list[Example]] = {}
    for split in _SPLITS:
        turns: dict[str, list[Turn]] = {}
        place = folder / split
        speakers = dict(_rows(place / "utt2spk", 2))
        audio = dict(_rows(place / "wav.scp", 2))
        for name, recording, start, end in _rows(place / "segments", 4):
            if name not in speakers or recording not in audio:
                lacking = "utt2spk" if name not in speakers else "wav.scp"
                raise AudioError(f"{place / 'segments'}: {name} of {recording} is not in {lacking}")
            turns.setdefault(recording, []).append(
                (_number(place / "segments", start), _number(place / "segments", end), speakers[name])
            )
        parts[split] = [Example(name, folder / file, json.dumps(turns.get(name, []))) for name, file in audio.items()]
    return Dataset("Kaldi", parts)


# -------------------------------------------------------------------- checks


def _labelled(path: Path, label: str, data: Dataset, skip_missing: bool) -> Dataset:
    missing = [example.id for example in data.examples if not example.labelled]
    if missing and not skip_missing:
        raise AudioError(
            f"{path}: {len(missing)} of {len(data.examples)} recordings have no '{label}': {_some(missing)}; "
            f"give them one, or leave them out (--skip-missing)"
        )
    parts = {part: [example for example in examples if example.labelled] for part, examples in data.parts.items()}
    left_out = (*data.left_out, *([f"{len(missing)} recordings without a {label}"] if missing else []))
    return replace(data, parts=parts, left_out=left_out)


def _check_audio(path: Path, examples: Sequence[Example]) -> None:
    gone = [example.audio for example in examples if not example.audio.is_file()]
    if gone:
        raise AudioError(
            f"{len(gone)} of {len(examples)} recordings are not where {path} says; the first: {gone[0]}; "
            f"paths are relative to the manifest or folder"
        )


def _offers(layout: str, label: str, offered: Sequence[str]) -> None:
    if label not in offered:
        raise AudioError(f"{layout} has the labels {', '.join(offered)}; this task needs '{label}'")


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in read_text(file).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise AudioError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None


def _rows(file: Path, columns: int) -> list[list[str]]:
    rows = [line.split() for line in _lines(file)]
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            raise AudioError(f"{file}, line {number}: needs {columns} columns; got {len(row)}")
    return rows


def _number(file: Path, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise AudioError(f"{file}: a time must be a number of seconds; got {word!r}") from None


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
