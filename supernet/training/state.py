"""The checkpoint of a training that may be killed at any moment: `state.pt`, all of it or the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from search_spaces import RunError

__all__ = ["load_state", "save_state"]


def save_state(out: Path, state: dict[str, Any]) -> None:
    """Writes the checkpoint. Raises `RunError` where it cannot, and keeps the one before."""
    partial = out / ".state.pt.partial"
    try:
        torch.save(state, partial)
        partial.replace(out / "state.pt")
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise RunError(
            f"cannot write a checkpoint into {out}: {error}; the one before is kept, run again to go on"
        ) from None


def load_state(out: Path, settings: str) -> dict[str, Any] | None:
    """The checkpoint in `out`, or None where there is none.

    Raises `RunError` for a file that is no checkpoint: one without an entry `settings`.
    """
    file = out / "state.pt"
    if not file.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        state[settings].items()
    except Exception as error:  # pickles break in many ways
        raise RunError(
            f"cannot read checkpoint {file}: {str(error).splitlines()[0]}; delete it to begin anew"
        ) from None
    return state
