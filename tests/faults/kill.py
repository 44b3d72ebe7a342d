"""Ends a process (kill -9) just before its N-th file operation below a folder.

What counts: opening for writing, renaming, removing, making and truncating, as Python's audit events report them, and
`os.write` to files, which has no event.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.move")


class Killer:
    """A context whose process ends before file operation number `at` below `folder`.

    0: it does not, and the number of operations is written to FOLDER.count.
    """

    def __init__(self, folder: Path, at: int) -> None:
        self.folder, self.at, self.count = os.path.realpath(folder), at, 0

    def __enter__(self) -> None:
        self._write = os.write
        sys.addaudithook(self.hook)
        os.write = self.write

    def __exit__(self, *error: object) -> None:
        counted = self.count
        Path(f"{self.folder}.count").write_text(str(counted))

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and self.inside(path):
                self.operation()
        elif event in EVENTS and any(self.inside(each) for each in arguments):
            self.operation()

    def write(self, descriptor: int, data: bytes) -> int:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and self.inside(Path(f"/proc/self/fd/{descriptor}").readlink()):
            self.operation()
        return self._write(descriptor, data)

    def inside(self, path: object) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - resolving would follow links
        return name.startswith(self.folder + os.sep) or name == self.folder

    def operation(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
