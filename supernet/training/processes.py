"""Training in several processes: torch.distributed, as the few questions that training asks.

A step's batch is shared out: of n processes, number r takes every n-th utterance from the r-th. So the recipe says all
there is to a run, and the number of processes changes nothing but the rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from search_spaces import NasError

__all__ = ["Processes", "joined", "processes"]

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Which of how many this one is."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes files and logs."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This one's part; may be empty."""
        return rows[self.rank :: self.count]

    def in_order(self, own: Sequence[int]) -> list[int]:
        """The numbers of all processes' parts, in the order before they were shared out."""
        if self.count == 1:
            return list(own)
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, list(own))
        longest = max(map(len, parts))
        return [part[i] for i in range(longest) for part in parts if i < len(part)]

    def total(self, value: Tensor) -> Tensor:
        """The sum of all processes' values."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def agreed(self, value: T) -> T:
        """The first process's value."""
        if self.count == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box)
        return box[0]  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Returns once all processes have come here."""
        if self.count > 1:
            dist.barrier()


def processes() -> Processes:
    """Those of the process group that this process has joined, or this one alone."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return Processes()


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Joins the process group that torchrun prepared, if it did, for the block; yields this process's device.

    Ray Train joins its own before; torchrun says in the environment who is who.
    """
    local = os.environ.get("LOCAL_RANK")
    if device == "cuda" and local is not None:
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    try:
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    except (RuntimeError, ValueError) as error:
        raise NasError(f"WORLD_SIZE is set, but the processes cannot meet: {str(error).splitlines()[0]}") from None
    try:
        yield device
    finally:
        dist.destroy_process_group()
