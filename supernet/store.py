"""Arrays of many recordings on disk, computed once: an append-only float16 file, and an index by name."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["FrameStore"]


class FrameStore:
    """Arrays (T, *shape) by name, as float16, in `folder`/`stem`.f16 with `index.jsonl` beside it.

    Only the index is held in memory; arrays are read from the file at each access. After a kill, the next use keeps
    every array whose index line is complete. Several processes may fill one store.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], stem: str = "frames") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.shape = folder, shape
        self._data, self._index = folder / f"{stem}.f16", folder / "index.jsonl"
        self._rows: dict[str, tuple[int, int]] = {}
        with self._locked():
            self._open()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _open(self) -> None:
        size = self._data.stat().st_size if self._data.exists() else 0
        good = 0
        for line in self._index.read_bytes().splitlines(keepends=True) if self._index.exists() else ():
            if not line.endswith(b"\n"):
                break
            name, offset, frames = json.loads(line)
            if (offset + frames) * self._frame_bytes > size:
                break
            self._rows[name] = (offset, frames)
            good += len(line)
        if self._index.exists() and self._index.stat().st_size != good:
            os.truncate(self._index, good)
        self._frames = max((offset + frames for offset, frames in self._rows.values()), default=0)
        if size != self._frames * self._frame_bytes and self._data.exists():
            os.truncate(self._data, self._frames * self._frame_bytes)

    @property
    def _frame_bytes(self) -> int:
        return 2 * int(np.prod(self.shape))

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def frames(self, name: str) -> int:
        """The number of frames of an array."""
        return self._rows[name][1]

    def add(self, name: str, array: npt.NDArray[np.float16]) -> None:
        """Stores one array (T, *shape), unless the name is already stored."""
        assert array.dtype == np.float16
        assert array.shape[1:] == self.shape
        with self._locked():
            if self._data.exists() and self._data.stat().st_size != self._frames * self._frame_bytes:
                self._open()  # another process has added arrays
            if name in self._rows:
                return
            with self._data.open("ab") as data, self._index.open("a", encoding="utf-8") as index:
                data.write(array.tobytes())
                data.flush()
                index.write(json.dumps([name, self._frames, len(array)]) + "\n")
            self._rows[name] = (self._frames, len(array))
            self._frames += len(array)

    def __getitem__(self, name: str) -> npt.NDArray[np.float16]:
        offset, frames = self._rows[name]
        count = frames * self._frame_bytes // 2
        rows = np.fromfile(self._data, np.float16, count, offset=offset * self._frame_bytes)
        return rows.reshape(frames, *self.shape)
