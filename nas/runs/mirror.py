"""Run folders at URLs: a working copy on this machine, and snapshots of it at any URL that fsspec supports.

A ledger is appended to and fsynced, which object stores cannot do. So a run at a URL is worked on in a folder of this
machine, and its files are copied to the URL as a whole: at the start, every few seconds, at the end. A crash of the
process loses nothing, since the working copy remains; the loss of the machine loses the last
seconds, which are evaluated again on resume. A run is held by one process of one machine at a time: the lock is that of
the working copy, so a second machine is not kept out.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from search_spaces import RunError
from search_spaces.files import cache_folder

__all__ = ["Mirror", "fetched", "is_url", "read_file", "write_file"]

_FILES = ("ledger.jsonl", "front.json", "best.json", "report.html", "run.json")
_EVERY_SECONDS = 10.0


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether `place` is a URL rather than a path."""
    return "://" in os.fspath(place)


class Mirror:
    """`with Mirror(place) as mirror`: work in `mirror.folder`, and call `mirror.sync()` now and then.

    For a path of this machine the folder is that path, and nothing is copied. Raises `RunError` if the URL cannot be
    used, or if it and the working copy have diverged.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.place, self._url = os.fspath(place), is_url(place)
        self.folder = _working_copy(self.place) if self._url else Path(place)
        self._synced = 0.0
        self._sent: dict[str, bytes] = {}

    def __enter__(self) -> Mirror:
        if self._url:
            self._fetch()
        return self

    def __exit__(self, *error: object) -> None:
        self.sync(now=True)

    def sync(self, now: bool = False) -> None:
        """Copies changed files to the URL, at most every few seconds: the ledger first, run.json last."""
        if not self._url or (not now and time.monotonic() - self._synced < _EVERY_SECONDS):
            return
        try:
            for name in _FILES:
                file = self.folder / name
                data = file.read_bytes() if file.exists() else b""
                if name == "ledger.jsonl":
                    data = data[: data.rfind(b"\n") + 1]
                if data and data != self._sent.get(name):
                    write_file(self.place, name, data)
                    self._sent[name] = data
        except RunError as error:
            raise RunError(f"{error}; the run is safe in {self.folder}: continue with --resume") from None
        self._synced = time.monotonic()

    def _fetch(self) -> None:
        """Updates the working copy from the URL."""
        remote = {name: data for name in _FILES if (data := read_file(self.place, name)) is not None}
        ledger = self.folder / "ledger.jsonl"
        here, other = ledger.read_bytes() if ledger.exists() else b"", remote.get("ledger.jsonl", b"")
        if not here.startswith(other) and not other.startswith(here[: here.rfind(b"\n") + 1]):
            raise RunError(
                f"{self.place} and its working copy {self.folder} hold different evaluations: two machines continued "
                "the run; delete the copy to continue from the URL"
            )
        if here.startswith(other) and (self.folder / "run.json").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, data in remote.items():
            (self.folder / name).write_bytes(data)


def fetched(place: str | os.PathLike[str], to: Path) -> Path:
    """A folder of this machine with the run's files: `place` itself, or `to`, with the present files of the URL."""
    if not is_url(place):
        return Path(place)
    to.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if (data := read_file(os.fspath(place), name)) is not None:
            (to / name).write_bytes(data)
    return to


def read_file(place: str, name: str) -> bytes | None:
    """A file of the folder or URL `place`; None if there is none."""
    fs, root = _filesystem(place)
    try:
        return bytes(fs.cat_file(f"{root}/{name}"))
    except FileNotFoundError:
        return None
    except Exception as error:  # every store has errors of its own
        raise RunError(f"cannot read {place}/{name}: {error}") from None


def write_file(place: str, name: str, data: bytes) -> None:
    """Writes a file of the folder or URL `place`, completely or not at all."""
    fs, root = _filesystem(place)
    try:
        fs.makedirs(root, exist_ok=True)
        with fs.transaction:
            fs.pipe_file(f"{root}/{name}", data)
    except Exception as error:  # every store has errors of its own
        raise RunError(f"cannot write {place}/{name}: {error}") from None


def _filesystem(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        fs, root = url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise RunError(f"cannot use {url}: {error}") from None
    return fs, root.rstrip("/")


def _working_copy(url: str) -> Path:
    return cache_folder() / "runs" / hashlib.sha256(url.encode()).hexdigest()[:16]
