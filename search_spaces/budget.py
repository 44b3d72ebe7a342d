"""Budgets: hard limits on one cost, as people write them.

budget  = cost "<=" number [unit] ["@" target]   spaces allowed: params<=27M, latency_ms <= 0.02 s
unit    = K M G T                            of counts (params, macs): thousands, never 1024s
        | us ms s                            of costs in `_ms`
        | B KB MB GB KiB MiB GiB             of costs in `_bytes`
target  = what a cost in `_ms` is measured on: latency_ms<=20@onnxruntime,threads=1,seconds=2. It is part of the cost's
          name (`latency_ms@onnxruntime,threads=1,seconds=2`); what it may say is for those who measure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from search_spaces.errors import NasError
from search_spaces.types import Number

__all__ = ["Budget", "KNOWN_COSTS"]


KNOWN_COSTS = ("params", "macs", "memory_bytes", "latency_ms")
"""The costs a budget may name where the search at hand does not say which it has."""

_UNITS: dict[str, dict[str, str]] = {
    "_ms": {"": "1", "us": "0.001", "ms": "1", "s": "1000"},
    "_bytes": {
        "": "1",
        "B": "1",
        "KB": "1e3",
        "MB": "1e6",
        "GB": "1e9",
        "KiB": "1024",
        "MiB": "1048576",
        "GiB": "1073741824",
    },
    "": {"": "1", "K": "1e3", "M": "1e6", "G": "1e9", "T": "1e12"},
}
_EXAMPLE = "'params<=27M' or 'latency_ms<=20'"
_SHAPE = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|==|≤|<|>|=|:)\s*(.*?)\s*")
_AMOUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([A-Za-zµ]*)")
_MOST = Decimal("1e30")


@dataclass(frozen=True)
class Budget:
    """A subnet keeps it when its `cost` is at most `limit`, in the cost's own unit (latency_ms: ms)."""

    cost: str
    limit: Number

    def __post_init__(self) -> None:
        if isinstance(self.limit, bool) or not isinstance(self.limit, (int, float)) or not math.isfinite(self.limit):
            raise NasError(f"the limit of a budget must be a number; got {self.cost}<={self.limit!r}")

    @classmethod
    def parse(cls, text: str, known: Iterable[str] | None = KNOWN_COSTS) -> Budget:
        """The budget in `text`; whole counts become exact integers: '27M' is 27000000.

        Raises `NasError` for a cost that is not among `known` (without its target; None: any cost), and for text that
        the grammar (module docstring) does not allow.
        """
        shape = _SHAPE.fullmatch(text)
        if not shape:
            raise NasError(f"a budget is written like {_EXAMPLE}; got {text!r}")
        cost, relation, rest = shape.groups()
        amount, at, target = (part.strip() for part in rest.partition("@"))
        if relation not in ("<=", "≤"):
            raise NasError(f"a budget is an upper limit, written with <= (try '{cost}<={rest}'); got {text!r}")
        names = tuple(dict.fromkeys(name.partition("@")[0] for name in known or ()))
        if known is not None and cost not in names:
            raise NasError(f"unknown cost '{cost}' in budget {text!r}; known here: {', '.join(names) or 'none'}")
        if at and (not target or not cost.endswith("_ms")):
            raise NasError(f"only a latency has a target ('latency_ms<=20@onnxruntime,threads=1'); got {text!r}")
        name = f"{cost}@{''.join(target.split())}" if at else cost
        return cls(name, _limit(text, cost, amount))

    def keeps(self, value: Number) -> bool:
        """Whether a subnet of this cost keeps the budget."""
        return value <= self.limit

    def __str__(self) -> str:
        cost, at, target = self.cost.partition("@")
        return f"{cost}<={self.limit}{at}{target}"


def _limit(text: str, cost: str, amount: str) -> Number:
    match = _AMOUNT.fullmatch(amount)
    if not match:
        raise NasError(f"the limit in budget {text!r} must be a number with a unit or without, as in {_EXAMPLE}")
    digits, unit = match.groups()
    units = next(units for suffix, units in _UNITS.items() if cost.endswith(suffix))
    if unit not in units:
        raise NasError(f"unknown unit '{unit}' in budget {text!r}; known for {cost}: {', '.join(filter(None, units))}")
    try:
        limit = Decimal(digits.replace("_", "")) * Decimal(units[unit])
    except ArithmeticError:
        limit = _MOST
    if limit >= _MOST:  # and never ask Python for an integer of a billion digits
        raise NasError(f"the limit in budget {text!r} must be below {_MOST:.0e}")
    return int(limit) if limit == limit.to_integral_value() else float(limit)
