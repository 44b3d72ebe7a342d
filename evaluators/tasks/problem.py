"""What `fit` trains heads on, as protocols. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Loss", "Problem"]


class Loss(Protocol):
    """A mean loss of rows of the train split, and the ids of the rows."""

    def loss(self, head: nn.Module, rows: Sequence[int]) -> Tensor: ...

    def ids(self, rows: Sequence[int]) -> list[str]: ...


class Problem(Loss, Protocol):
    """A problem for heads: batches of train rows, a loss, a figure on dev (greater is better), and the test."""

    def head(self) -> nn.Module: ...

    def plan(self, rng: np.random.Generator, batch: int) -> list[list[int]]: ...

    def dev(self, head: nn.Module) -> float: ...

    def test(self, heads: Sequence[nn.Module]) -> dict[str, object]: ...
