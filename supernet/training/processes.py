"""Training in several processes: the few operations of torch.distributed that training needs.

The processes share each batch: of n processes, number r takes every n-th utterance, starting with the r-th. So the
recipe alone describes a run, and the number of processes changes only the rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from search_spaces import NasError

__all__ = ["Processes", "joined", "processes"]

T = TypeVar("T")
JOIN = timedelta(seconds=60)
WORK = timedelta(minutes=30)  # a process may wait that long for another's work


@dataclass(frozen=True)
class Processes:
    """A group of `count` processes, of which this one is number `rank`."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's part of `rows`; may be empty."""
        return rows[self.rank :: self.count]

    def in_order(self, own: Sequence[int]) -> list[int]:
        """The numbers of all processes' shares, in the order that they had before `share`."""
        if self.count == 1:
            return list(own)
        parts: list[list[int]] = [[]] * self.count
        dist.all_gather_object(parts, list(own))
        longest = max(map(len, parts))
        return [part[i] for i in range(longest) for part in parts if i < len(part)]

    def total(self, value: Tensor) -> Tensor:
        """The sum of all processes' values; with several processes, `value` is overwritten."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def agreed(self, value: T) -> T:
        """The first process's value."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def wait(self) -> None:
        """Returns once every process has called it."""
        if self.count > 1:
            dist.barrier()


def processes() -> Processes:
    """The process group that this process has joined, or this process alone."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return Processes()


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Joins torchrun's process group, if there is one, for the block; yields this process's device.

    torchrun describes the group in the environment. Ray Train joins its own group before this is called.
    Raises `NasError` for a device that this machine does not have, and if the processes cannot connect.
    """
    _check_device(device)
    local_rank = os.environ.get("LOCAL_RANK")
    if device == "cuda" and local_rank is not None:
        device = f"cuda:{local_rank}"
        torch.cuda.set_device(device)
    if dist.is_initialized() or os.environ.get("WORLD_SIZE", "1") == "1":
        yield device
        return
    try:
        store, rank, count = next(rendezvous("env://", timeout=JOIN))
        store.set_timeout(WORK)
        backend = "nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    except (RuntimeError, ValueError, OverflowError) as error:
        raise NasError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE'][:20]!r}, but the processes cannot connect within "
            f"{JOIN.total_seconds():.0f} s: start each with torchrun, or, if the variable is left over from another "
            f"job, unset RANK and WORLD_SIZE ({str(error).splitlines()[0]:.200})"
        ) from None
    try:
        yield device
    finally:
        dist.destroy_process_group()


def _check_device(device: str) -> None:
    if device != "cpu" and not device.startswith("cuda"):
        raise NasError(f"device must be cpu or cuda; got {device!r}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise NasError(f"device={device} is not on this machine; use --device cpu")
