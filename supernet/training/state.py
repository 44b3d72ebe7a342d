"""The checkpoint of a training run that may be killed at any time: `state.pt`, the new one whole or the last one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from search_spaces import NasError, RunError
from search_spaces.files import replacing

__all__ = ["fitting", "load_state", "save_state"]

MAX_STEPS = 10**8


def save_state(out: Path, state: Mapping[str, object]) -> None:
    """Writes the checkpoint. Raises `RunError` if it cannot be written; the last one is kept."""
    try:
        with replacing(out / "state.pt") as temporary:
            torch.save(dict(state), temporary)
    except (NasError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
        raise RunError(
            f"cannot write a checkpoint into {out}: {error}; the last checkpoint is kept, run again to resume from it"
        ) from None


@contextmanager
def fitting(out: Path) -> Iterator[None]:
    """Turns the errors of a block that takes over the checkpoint in `out`, which may hold anything, into `RunError`."""
    try:
        yield
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, NasError):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RunError(
            f"{out / 'state.pt'} is not a checkpoint of this training ({reason}); delete it to start over"
        ) from None


def load_state(out: Path, settings: str) -> dict[str, Any] | None:
    """The checkpoint in `out`, or None if there is none. Its entry `settings` is a dict, "step" a number of steps.

    Raises `RunError` for a file that is not such a checkpoint.
    """
    file = out / "state.pt"
    if not file.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        state[settings].items()
        if type(state["step"]) is not int or not 0 <= state["step"] < MAX_STEPS:
            raise ValueError(f"its step is {state['step']!r:.40}")
    except Exception as error:  # a broken pickle raises errors of many kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"cannot read checkpoint {file}: {reason}; delete it to start over") from None
    return state
