"""What a run was made of, by content: files at the same paths may be others when the run is used again.

`nas search` keeps the identity in run.json, and the weights' in best.json. Whatever meets the run and those files
again (resume, export, `--subnet best.json`) compares them, and ends with exit status 4 if they differ.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces import IdentityError
from search_spaces.files import require_file

if TYPE_CHECKING:
    from supernet import HubertSupernet

__all__ = ["check_identity", "check_weights", "digest_of_file", "digest_of_folder", "digest_of_speech", "identify"]

_DIGITS = 12
_CHUNK = 1 << 20


def identify(
    model: HubertSupernet, audio: str | None = None, teacher: str | None = None, space: str | None = None
) -> dict[str, str]:
    """Digests of the supernet's weights and of the files that a search reads beside them."""
    from supernet.hub import local_folder

    identity = {"supernet": model.fingerprint()}
    if audio is not None:
        identity["audio"] = digest_of_speech(Path(audio))
    if teacher is not None:
        identity["teacher"] = digest_of_folder(local_folder(teacher))
    if space is not None and os.path.exists(space):  # noqa: PTH110 - a name may be too long for Path.exists
        identity["space"] = digest_of_file(Path(space))
    return identity


def check_identity(known: object, now: Mapping[str, str], run: Path) -> None:
    """Raises `IdentityError` for what is not what `run` was made with; runs of earlier versions know nothing."""
    if not isinstance(known, Mapping):
        return
    for name, digest in now.items():
        if known.get(name, digest) != digest:
            raise IdentityError(
                f"{run} was made with another {name}: it was {known[name]}, and what lies at its path now is {digest}; "
                "restore it, or start another run"
            )


def check_weights(known: object, model: HubertSupernet, source: Path) -> None:
    """Raises `IdentityError` if `source` was chosen for other weights than the supernet's; None is not known."""
    if known is not None and known != model.fingerprint():
        raise IdentityError(
            f"{source} is of a supernet with the weights {str(known)[:40]}; this one has {model.fingerprint()}: give "
            "the supernet that was searched (--supernet), or a plain subnet.json to take the architecture alone"
        )


def digest_of_file(file: Path) -> str:
    """12 hex digits of a file's content."""
    total = hashlib.sha256()
    require_file(file)
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()[:_DIGITS]


def digest_of_folder(folder: Path) -> str:
    """12 hex digits of the contents of the files in a folder, which may be a single file too."""
    files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else [folder]
    return _combined(f"{file.name} {digest_of_file(file)}" for file in files)


def digest_of_speech(manifest: Path) -> str:
    """12 hex digits of a manifest's content, or of a corpus's utterances, and of the sizes of their recordings."""
    from supernet.audio import read_manifest

    utterances = read_manifest(manifest)
    sizes = map(str, (_size(utterance.audio) for utterance in utterances))
    if manifest.is_file():
        return _combined([digest_of_file(manifest), *sizes])
    return _combined([*(repr(replace(utterance, audio=Path())) for utterance in utterances), *sizes])


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _combined(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_DIGITS]
