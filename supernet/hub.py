"""Names on the Hugging Face Hub, such as openai/whisper-base, as folders of huggingface_hub's own cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

from search_spaces import CheckpointError

__all__ = ["is_hub_name", "local_folder"]

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = ["*.json", "*.safetensors", "*.txt"]
_PICKLE = "pytorch_model.bin"  # read without running code; only where there are no safetensors


def is_hub_name(name: str) -> bool:
    """Whether this is `org/name`, and not a path that exists."""
    return _NAME.fullmatch(name) is not None and not os.path.exists(name)  # noqa: PTH110


def local_folder(name: Path | str) -> Path:
    """The folder of a model: the path itself, or the cached files of a Hub name, downloaded if they are not there.

    Raises `CheckpointError` in one line if they cannot be had.
    """
    text = os.fspath(name)
    if not is_hub_name(text):
        return Path(text)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        folder = Path(snapshot_download(text, allow_patterns=_FILES))
        if not any(folder.glob("*.safetensors")) and not (folder / _PICKLE).exists():
            folder = Path(snapshot_download(text, allow_patterns=[*_FILES, _PICKLE]))
        return folder
    except GatedRepoError:
        reason = "its licence must be accepted on its page, and HF_TOKEN set"
    except RepositoryNotFoundError:
        reason = "there is no such model on the Hub (or HF_TOKEN is missing)"
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        reason = "it is not in the cache and the Hub cannot be reached: go online, or give a folder"
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    raise CheckpointError(f"cannot get {text}: neither a file or folder here nor from the Hub: {reason}")
