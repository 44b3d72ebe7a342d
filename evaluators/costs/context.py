"""The input of the costs' constructors; each uses the parts that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_spaces import NasError, Space

if TYPE_CHECKING:
    from supernet import HubertSupernet

__all__ = ["CostContext", "Progress", "refuse_argument"]

Progress = Callable[[int, int], None]


@contextmanager
def _silent() -> Iterator[Progress]:
    yield lambda done, total: None


@dataclass(frozen=True)
class CostContext:
    """The space that is searched, and the means of measuring.

    `supernet`: its weights. `seconds`: of audio, for MACs. `limit`: the tightest budget on this cost. `calibration`:
    the one in the run that is being resumed. `remote`: calls a function on the node that has the target device.
    `log` and `progress` receive messages and (done, total).
    """

    space: Space
    supernet: HubertSupernet | None = None
    seconds: float = 1.0
    limit: float | None = None
    calibration: Mapping[str, object] | None = None
    remote: Callable[..., Any] | None = None
    log: Callable[[str], None] = lambda message: None
    progress: Callable[[], AbstractContextManager[Progress]] = _silent


def refuse_argument(cost: str, argument: str | None) -> None:
    """Raises `NasError` if a cost that takes no argument is given one, as in 'params@cpu'."""
    if argument is not None:
        raise NasError(f"cost {cost} takes no argument; got {cost}@{argument}")
