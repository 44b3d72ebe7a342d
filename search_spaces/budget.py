"""Budgets: hard limits on one cost, and their text form.

budget  = cost "<=" number [unit] ["@" target]   spaces are allowed: params<=27M, latency_ms <= 0.02 s
unit    = %                                  of the largest subnet's cost, up to 100
        | K M G T                            of counts (params, macs): powers of 1000, not of 1024
        | us ms s                            of costs in `_ms`
        | B KB MB GB KiB MiB GiB             of costs in `_bytes`
target  = device and runtime on which a cost in `_ms` is measured: latency_ms<=20@onnxruntime,threads=1,seconds=2. The
          target is part of the cost's name (`latency_ms@onnxruntime,threads=1,seconds=2`); its own grammar is defined
          by the code that measures.
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
"""The costs that a budget may name, unless the caller gives its own."""

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
_EXAMPLE = "'params<=27M', 'params<=50%' or 'latency_ms<=20'"
_BUDGET = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|==|≤|<|>|=|:)\s*(.*?)\s*")
_AMOUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([A-Za-zµ]*)")
_MAX_LIMIT = Decimal("1e30")


@dataclass(frozen=True)
class Budget:
    """A subnet keeps the budget if its `cost` is at most `limit`, in the unit of the cost (latency_ms: ms).

    `percent`: the limit is a share of the largest subnet's cost, which `of_largest` turns into a limit of its own.
    Raises `NasError` for a limit that is not a finite number.
    """

    cost: str
    limit: Number
    percent: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.limit, bool) or not isinstance(self.limit, (int, float)) or not math.isfinite(self.limit):
            raise NasError(f"the limit of a budget must be a number; got {self.cost}<={self.limit!r}")

    @classmethod
    def parse(cls, text: str, known: Iterable[str] | None = KNOWN_COSTS) -> Budget:
        """The budget in `text`; whole numbers become exact integers: '27M' is 27000000.

        `known`: the allowed costs, whatever their target; None allows every cost. Raises `NasError` for other costs,
        and for text that does not follow the grammar (see the module).
        """
        match = _BUDGET.fullmatch(text)
        if not match:
            raise NasError(f"a budget is written like {_EXAMPLE}; got {text!r}")
        cost, relation, rest = match.groups()
        amount, at, target = (part.strip() for part in rest.partition("@"))
        if relation not in ("<=", "≤"):
            raise NasError(f"a budget is an upper limit, written with <= (try '{cost}<={rest}'); got {text!r}")
        names = tuple(dict.fromkeys(name.partition("@")[0] for name in known or ()))
        if known is not None and cost not in names:
            raise NasError(f"unknown cost '{cost}' in budget {text!r}; known here: {', '.join(names) or 'none'}")
        if at and (not target or not cost.endswith("_ms")):
            raise NasError(f"only a latency has a target ('latency_ms<=20@onnxruntime,threads=1'); got {text!r}")
        name = f"{cost}@{''.join(target.split())}" if at else cost
        percent = amount.endswith("%")
        if not percent:
            return cls(name, _limit(text, cost, amount))
        limit = _limit(text, "", amount[:-1].rstrip())
        if not 0 < limit <= 100:
            raise NasError(f"a share of the largest subnet's {cost} must be in 0..100 %; got {text!r}")
        return cls(name, limit, percent)

    def of_largest(self, cost: Number) -> Budget:
        """The budget itself, or, of a share, that of a space whose largest subnet has this cost."""
        if not self.percent:
            return self
        share = self.limit * cost / 100
        return Budget(self.cost, int(share) if isinstance(cost, int) else _rounded_down(share))

    def keeps(self, value: Number) -> bool:
        """Whether a subnet with this cost keeps the budget."""
        return value <= self.limit

    def __str__(self) -> str:
        cost, at, target = self.cost.partition("@")
        return f"{cost}<={self.limit}{'%' if self.percent else ''}{at}{target}"


def _rounded_down(value: float, digits: int = 6) -> float:
    """`value` with so many significant digits, for people to read."""
    if not 0 < value < math.inf:
        return value
    scale = Decimal(10) ** (digits - 1 - Decimal(value).adjusted())
    return float(math.floor(Decimal(value) * scale) / scale)


def _limit(text: str, cost: str, amount: str) -> Number:
    match = _AMOUNT.fullmatch(amount)
    if not match:
        raise NasError(f"the limit in budget {text!r} must be a number, with or without a unit, as in {_EXAMPLE}")
    digits, unit = match.groups()
    units = next(units for suffix, units in _UNITS.items() if cost.endswith(suffix))
    unit = {"k": "K", "kB": "KB"}.get(unit, unit)
    if unit not in units:
        raise NasError(f"unknown unit '{unit}' in budget {text!r}; known for {cost}: {', '.join(filter(None, units))}")
    try:
        limit = Decimal(digits.replace("_", "")) * Decimal(units[unit])
    except ArithmeticError:
        limit = _MAX_LIMIT
    if limit >= _MAX_LIMIT:  # also keeps int() from making an integer of a billion digits
        raise NasError(f"the limit in budget {text!r} must be below {_MAX_LIMIT:.0e}")
    return int(limit) if limit == limit.to_integral_value() else float(limit)
