"""The checkpoint of a training that may be killed at any moment: `state.pt`, complete, or the previous one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from search_spaces import NasError, RunError
from search_spaces.files import replacing
from search_spaces.types import JsonObject

__all__ = ["load_state", "save_state"]


def save_state(out: Path, state: Mapping[str, object]) -> None:
    """Writes the checkpoint. Raises `RunError` if it cannot, and keeps the previous one."""
    try:
        with replacing(out / "state.pt") as temporary:
            torch.save(state, temporary)
    except (NasError, RuntimeError) as error:
        raise RunError(
            f"cannot write a checkpoint into {out}: {error}; the previous one is kept, run again to continue"
        ) from None


def load_state(out: Path, settings: str) -> JsonObject | None:
    """The checkpoint in `out`, or None.

    Raises `RunError` for a file that is no checkpoint: one without an entry `settings`.
    """
    file = out / "state.pt"
    if not file.exists():
        return None
    try:
        state: JsonObject = torch.load(file, map_location="cpu", weights_only=True)
        state[settings].items()
    except Exception as error:  # pickles break in many ways
        raise RunError(
            f"cannot read checkpoint {file}: {str(error).splitlines()[0]}; delete it to start again"
        ) from None
    return state
