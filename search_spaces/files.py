"""The one way files are written, so that a reader finds the old file or the new one and never half of either.

`replacing` writes to a temporary name and renames. `cache_folder` is where the package keeps what it can compute again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from search_spaces.errors import NasError

__all__ = ["cache_folder", "replacing", "write_bytes", "write_json", "write_text"]


@contextmanager
def replacing(file: str | os.PathLike[str], *, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `file`; what the block writes there replaces `file` when the block ends.

    If the block raises, the temporary file is removed and `file` stays as it was. A killed process can leave the
    temporary file behind; the next write of the same file replaces it. `shared`: other processes may write the same
    file at the same time, so the temporary name holds the process id. The result has the permissions of an ordinary
    new file, whatever mode the block created it with (safetensors uses 0600). Folders are created as needed.

    Raises `NasError` naming `file` for every `OSError`.
    """
    file = Path(file)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp" if shared else f".{file.name}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb"):
            pass
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(file)
    except OSError as error:
        _remove(temporary)
        raise NasError(f"cannot write {file}: {error.strerror or error}") from None
    except BaseException:
        _remove(temporary)
        raise


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink()


def write_bytes(file: Path | str, data: bytes, *, shared: bool = False) -> None:
    """Writes `data`, completely or not at all."""
    with replacing(file, shared=shared) as temporary:
        temporary.write_bytes(data)


def write_text(file: Path | str, text: str, *, shared: bool = False) -> None:
    """Writes `text` as UTF-8, completely or not at all."""
    write_bytes(file, text.encode("utf-8"), shared=shared)


def write_json(file: Path | str, data: object, *, shared: bool = False) -> None:
    """Writes `data` as indented JSON; values that JSON lacks (paths) become strings.

    Raises `NasError` for numbers that are not finite.
    """
    try:
        text = json.dumps(data, indent=1, allow_nan=False, default=str)
    except ValueError as error:
        raise NasError(f"cannot write {file}: numbers must be finite ({error})") from None
    write_text(file, text + "\n", shared=shared)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/lighthubert-nas`, by default in `~/.cache`: everything in it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lighthubert-nas"
