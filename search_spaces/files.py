"""The one way to write files: a reader sees the old file or the new one, never part of either.

`replacing` writes to a temporary name and renames; `new_folder` does the same with a folder. `cache_folder` is for
what the package can compute again. `read_bytes` and `read_text` are the one way to read a file that a user named.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np

from search_spaces.errors import NasError, RunError

__all__ = [
    "cache_folder",
    "new_folder",
    "read_bytes",
    "read_text",
    "replacing",
    "require_file",
    "write_bytes",
    "write_json",
    "write_text",
]

MAX_READ = 1 << 32


@contextmanager
def replacing(file: str | os.PathLike[str], *, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `file`; what the block writes there replaces `file` when the block ends.

    If the block raises, the temporary file is removed and `file` is unchanged. A killed process can leave the temporary
    file behind; the next write of the same file replaces it. `shared`: other processes may write the same file at the
    same time, so each write has a temporary name of its own. The result has the permissions of an ordinary new file,
    whatever mode the block created it with (safetensors uses 0600). Folders are created as needed.

    Raises `NasError`, which names `file`, for every `OSError`.
    """
    file = Path(os.path.realpath(file))  # a link stays a link, to the new file
    if file.exists() and not file.is_file() and not file.is_dir():  # a folder is an OSError below
        raise NasError(f"cannot write {file}: it exists, and is not a file")
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{uuid4().hex[:8]}.tmp" if shared else f".{file.name}.tmp")
    try:
        mode = _create(temporary)
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(file)
    except OSError as error:
        _remove(temporary)
        raise NasError(f"cannot write {file}: {_reason(error, file, temporary)}") from None
    except BaseException:
        _remove(temporary)
        raise


def _create(temporary: Path) -> int:
    """Creates an empty file, replacing one that was left behind; returns the mode of a new file under the umask."""
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    with temporary.open("xb") as empty:
        return os.fstat(empty.fileno()).st_mode


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink()


def _reason(error: OSError, file: Path, temporary: Path) -> str:
    """Why writing failed, with the name of the other file that it concerns, if any (one that the block reads)."""
    reason = error.strerror or str(error)
    name = error.filename
    other = isinstance(name, (str, Path)) and Path(name) not in (file, file.parent, temporary)
    return f"{reason}: {name}" if other else reason


@contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields an empty folder beside `folder`, which becomes `folder` when the block ends: whole, or not there.

    `folder` must be missing or empty. If the block raises, the temporary folder is removed; one that a killed process
    left behind is emptied by the next attempt. Raises `RunError` if `folder` holds anything, `NasError` naming it for
    every `OSError`.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - Path.resolve would follow a link to the mount behind it
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists and is not an empty folder: give a new one")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        _put_in_place(partial, folder)
    except OSError as error:
        raise NasError(f"cannot write {folder}: {_reason(error, folder, partial)}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(written: Path, folder: Path) -> None:
    """Renames `written` to `folder`; an empty folder that is a mount cannot be replaced, and is filled instead."""
    try:
        written.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise
        for file in sorted(written.iterdir()):
            shutil.move(file, folder / file.name)


def require_file(file: str | os.PathLike[str]) -> None:
    """Raises `OSError` for what is no regular file of bearable size: reading a FIFO or a device would never end."""
    there = os.stat(file)  # noqa: PTH116 - also for names that are too long for Path
    if not stat.S_ISREG(there.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(file))
    if there.st_size > MAX_READ:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_READ >> 30} GiB", os.fspath(file))


def read_bytes(file: str | os.PathLike[str]) -> bytes:
    """The content of a regular file; raises `OSError` for anything else (`require_file`)."""
    require_file(file)
    return Path(file).read_bytes()


def read_text(file: str | os.PathLike[str]) -> str:
    """The text of a regular file, UTF-8 with or without a mark; raises `OSError` and `UnicodeDecodeError`."""
    return read_bytes(file).decode("utf-8-sig")


def write_bytes(file: str | os.PathLike[str], data: bytes, *, shared: bool = False) -> None:
    """Writes `data`, completely or not at all."""
    with replacing(file, shared=shared) as temporary:
        temporary.write_bytes(data)


def write_text(file: str | os.PathLike[str], text: str, *, shared: bool = False) -> None:
    """Writes `text` as UTF-8, completely or not at all."""
    write_bytes(file, text.encode("utf-8"), shared=shared)


def write_json(file: str | os.PathLike[str], data: object, *, shared: bool = False) -> None:
    """Writes `data` as indented JSON; numpy's numbers become numbers, other values that JSON lacks (paths) strings.

    Raises `NasError` for numbers that are not finite.
    """
    try:
        text = json.dumps(data, indent=1, allow_nan=False, default=_plain)
    except ValueError as error:
        raise NasError(f"cannot write {file}: numbers must be finite ({error})") from None
    write_text(file, text + "\n", shared=shared)


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/lighthubert-nas`, by default in `~/.cache`; everything in it may be deleted at any time."""
    folder = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")  # noqa: PTH111 - raises for no home
    return Path(tempfile.gettempdir() if folder.startswith("~") else folder) / "lighthubert-nas"
