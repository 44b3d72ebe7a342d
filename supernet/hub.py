"""The Hugging Face Hub: names such as openai/whisper-base as folders of huggingface_hub's cache, and uploads."""

from __future__ import annotations

import os
import re
from pathlib import Path

from search_spaces import CheckpointError, NasError
from search_spaces.text import first_line

__all__ = ["is_hub_name", "is_name", "local_folder", "push_folder", "require_upload"]

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = ["*.json", "*.safetensors", "*.txt"]
_PICKLE = "pytorch_model.bin"  # read without running code; only where there are no safetensors


def is_name(text: str) -> bool:
    """Whether this has the form `org/name`."""
    return _NAME.fullmatch(text) is not None


def is_hub_name(name: str) -> bool:
    """Whether this is `org/name`, and not a path that exists."""
    return is_name(name) and not os.path.exists(name)  # noqa: PTH110


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
        reason = first_line(error)[:160]
    raise CheckpointError(f"cannot get {text}: neither a file or folder here nor from the Hub: {reason}")


def require_upload(name: str) -> None:
    """Raises `NasError` in one line if `name` is no org/name, or the Hub would take nothing from here."""
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if not is_name(name):
        raise NasError(f"--push takes a name on the Hub, such as org/name; got {name!r}")
    if constants.HF_HUB_OFFLINE:
        raise NasError("--push needs the Hub, and HF_HUB_OFFLINE is set: unset it, or leave --push out")
    if get_token() is None:
        raise NasError("--push needs a token that may write to the Hub: hf auth login, or set HF_TOKEN")
    try:
        HfApi().whoami()
    except HfHubHTTPError as error:
        raise NasError(f"--push: the Hub does not accept the token: {first_line(error)[:160]}") from None
    except Exception as error:  # of the HTTP library that huggingface_hub uses
        raise NasError(f"--push: the Hub cannot be reached: {first_line(error)[:160]}") from None


def push_folder(folder: Path, name: str) -> str:
    """Uploads the files of `folder` as the model `name`, which is made if it is not there; its URL."""
    from huggingface_hub import HfApi

    try:
        api = HfApi(library_name="lighthubert-nas")
        url = api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=url.repo_id, folder_path=folder, commit_message="Exported by lighthubert-nas")
        return str(url)
    except Exception as error:  # of huggingface_hub, and of the HTTP library that it uses
        raise NasError(
            f"cannot push to {name}: {first_line(error)[:160]}; the export is complete: hf upload {name} {folder} ."
        ) from None
