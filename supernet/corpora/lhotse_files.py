"""lhotse's manifests, read by lhotse: cuts, or recordings and supervisions. Commands in them are never run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from search_spaces import AudioError
from search_spaces.files import require_file
from search_spaces.text import first_line
from supernet.audio import Utterance
from supernet.corpora.parts import labels_of, placed, split_of, utterance

__all__ = ["read_lhotse"]


def read_lhotse(path: Path) -> list[Utterance]:
    """The utterances of a manifest of cuts, or of the manifests in a folder: all cuts, or all supervisions.

    A cut is an utterance; without cuts, a supervision is one. The split is a cut's own, or in the file's name.
    """
    files = sorted(path.glob("*.jsonl.gz")) if path.is_dir() else [path]
    cuts = [file for file in files if "cuts" in file.name] or ([path] if path.is_file() else [])
    if cuts:
        return [each for file in cuts for each in _of_cuts(file)]
    utterances = []
    for file in (file for file in files if "supervisions" in file.name):
        recordings = file.with_name(file.name.replace("supervisions", "recordings"))
        if not recordings.is_file():
            raise AudioError(f"{file} needs its recordings beside it: {recordings.name}")
        by_id = {each.id: each for each in _loaded(recordings)}
        utterances += [_of_supervision(file, each, by_id) for each in _loaded(file)]
    if not utterances:
        raise AudioError(f"{path} holds neither *cuts*.jsonl.gz nor *supervisions*.jsonl.gz with *recordings*.jsonl.gz")
    return utterances


def _loaded(file: Path) -> Iterable[Any]:
    try:
        from lhotse import load_manifest
    except ImportError:
        raise AudioError(
            f"{file} is a manifest of lhotse, which is needed: pip install 'lighthubert-nas[lhotse]'"
        ) from None
    require_file(file)
    try:
        return list(load_manifest(file))
    except Exception as error:  # lhotse has no error of its own
        raise AudioError(f"cannot read {file}: {first_line(error)[:160]}") from None


def _of_cuts(file: Path) -> Iterable[Utterance]:
    for cut in _loaded(file):
        if type(cut).__name__ not in ("MonoCut", "MultiCut"):
            raise AudioError(f"{file}: '{cut.id}' must be a cut of one recording; got a {type(cut).__name__}")
        spoken = list(cut.supervisions)
        custom = cut.custom or {}
        labels = labels_of(custom) | (_labels(spoken[0]) if len(spoken) == 1 else {})
        turns: list[object] = [[max(0.0, each.start), min(each.end, cut.duration), each.speaker] for each in spoken]
        named = bool(spoken) and all(each.speaker is not None for each in spoken)
        split = split_of(str(custom["split"])) if "split" in custom else split_of(file.name)
        audio, seconds = _recording(file, cut.recording)
        yield utterance(
            str(file), cut.id, audio, cut.start, cut.end, seconds, split, turns if named else None, labels=labels
        )


def _of_supervision(file: Path, spoken: Any, recordings: dict[str, Any]) -> Utterance:
    if spoken.recording_id not in recordings:
        raise AudioError(f"{file}: '{spoken.id}' is of '{spoken.recording_id}', which is not among the recordings")
    audio, seconds = _recording(file, recordings[spoken.recording_id])
    split, labels = split_of(file.name), _labels(spoken)
    return utterance(str(file), spoken.id, audio, spoken.start, spoken.end, seconds, split, labels=labels)


def _labels(spoken: Any) -> dict[str, str]:
    own = {"text": spoken.text, "speaker": spoken.speaker, "language": spoken.language}
    return labels_of(spoken.custom or {}) | labels_of(own)


def _recording(file: Path, recording: Any) -> tuple[Path, float]:
    """The file of a recording, and its seconds."""
    name = "" if recording is None else recording.id
    kinds = [] if recording is None else [source.type for source in recording.sources]
    if kinds != ["file"]:
        raise AudioError(
            f"{file}: recording '{name}' must be one file; got {', '.join(kinds) or 'none'}: commands are never run "
            "and URLs not read; write it to a file (lhotse's save_audio)"
        )
    if recording.transforms:
        raise AudioError(f"{file}: recording '{name}' has transforms, which are not applied: write it to a file")
    near = (file.parent, file.parent.parent, Path.cwd())
    return placed(str(recording.sources[0].source), near), float(recording.duration)
