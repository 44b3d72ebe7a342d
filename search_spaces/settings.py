"""Settings as frozen dataclasses: one description of each value for Python, the command line and files.

    @dataclass(frozen=True)
    class SearchSettings(Settings):
        evals: int = option(64, "Evaluations to spend.", minimum=0)

A default is written once, here. Files hold what `to_dict` returns and `from_dict` accepts; the options of the command
line are generated from the same fields (`nas.commands.options`).
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from search_spaces.errors import NasError
from search_spaces.types import JsonMapping, JsonObject

__all__ = ["Option", "Settings", "option", "option_of"]

S = TypeVar("S", bound="Settings")


@dataclass(frozen=True)
class Option:
    """How one setting is shown and checked.

    `flag`: its name on the command line; default: the field's name with dashes. `group`: the heading it is listed
    under. `needs`: another field (of any settings of the same command) without which it has no effect. `conflicts`:
    another field that excludes it. `parse`: makes the value, or each value of a tuple, from text. `path`: the value is
    a file or folder that exists, `output`: one to be written; both are stored as absolute paths. `names`: the known
    names (of a path: those that are not paths). `minimum`, `maximum`: inclusive.
    """

    help: str = ""
    flag: str | None = None
    group: str | None = None
    needs: str | None = None
    conflicts: str | None = None
    parse: Callable[[str], object] | None = None
    path: bool = False
    output: bool = False
    names: Callable[[], Iterable[str]] | None = None
    minimum: float | None = None
    maximum: float | None = None


def option(default: object = dataclasses.MISSING, help: str = "", **about: Any) -> Any:
    """A dataclass field with an `Option`; without a default the setting is required."""
    return field(default=default, metadata={"option": Option(help, **about)})


def option_of(setting: dataclasses.Field[object]) -> Option:
    """The `Option` of a field."""
    described: Option = setting.metadata.get("option", Option())
    return described


@dataclass(frozen=True)
class Settings:
    """Base of all settings: values are checked when they are set, and converted to and from those of JSON and TOML.

    A field is a bool, int, float, str, `Path` or what its `parse` makes; `X | None`; or `tuple[X, ...]`. Text is
    accepted for a `Path` and for what `parse` makes, lists for tuples, and integers for floats.

    Raises `NasError` for values of another type and numbers out of range.
    """

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for setting in fields(self):
            described = option_of(setting)
            value = _typed(setting.name, getattr(self, setting.name), types[setting.name], described)
            _check_range(setting.name, value, described)
            object.__setattr__(self, setting.name, value)

    def to_dict(self) -> JsonObject:
        """Plain values by field; paths are absolute, and values that were parsed from text are text again."""
        return {setting.name: _plain(getattr(self, setting.name), option_of(setting)) for setting in fields(self)}

    @classmethod
    def from_dict(cls: type[S], values: JsonMapping, source: str = "") -> S:
        """Settings from plain values; fields that are missing have their defaults.

        Raises `NasError`, which starts with `source`, for unknown settings (listing the known ones), missing settings
        and bad values.
        """
        known = {setting.name: setting for setting in fields(cls)}
        prefix = f"{source}: " if source else ""
        for key in values:
            if key not in known:
                close = get_close_matches(str(key), known, 1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise NasError(f"{prefix}unknown setting {str(key)!r}{hint} (known: {', '.join(known)})")
        missing = [name for name, setting in known.items() if name not in values and _is_required(setting)]
        if missing:
            raise NasError(f"{prefix}missing setting {missing[0]!r}")
        try:
            return cls(**values)
        except NasError as error:
            raise NasError(f"{prefix}{error}") from None


def _is_required(setting: dataclasses.Field[object]) -> bool:
    return setting.default is dataclasses.MISSING and setting.default_factory is dataclasses.MISSING


def _plain(value: object, described: Option) -> object:
    if isinstance(value, (tuple, list)):
        return [_plain(each, described) for each in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    if "://" in text or (described.names is not None and text in described.names()):
        return text
    if described.output or (described.path and isinstance(value, Path)):
        return str(Path(text).absolute())
    return _absolute_if_it_exists(text) if described.path else text


def _absolute_if_it_exists(text: str) -> str:
    """An existing path as an absolute path; names are unchanged."""
    try:
        return str(Path(text).absolute()) if Path(text).exists() else text
    except OSError:
        return text


def _float(value: numbers.Real) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf  # refused by `_check_range`


_NAMES: Mapping[object, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
}


def _typed(name: str, value: object, kind: object, described: Option) -> object:
    """`value` as a `kind`; raises `NasError` if it is of another type."""
    if get_origin(kind) in (Union, UnionType):
        (inner,) = (part for part in get_args(kind) if part is not NoneType)
        return None if value is None else _typed(name, value, inner, described)
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise NasError(f"{name} must be a list; got {value!r:.80}")
        return tuple(_typed(name, each, get_args(kind)[0], described) for each in value)
    if described.parse is not None and isinstance(value, str):
        return described.parse(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, bool) is (kind is bool):
        if kind is int and isinstance(value, numbers.Integral):
            return int(value)
        if kind is float and isinstance(value, numbers.Real):
            return _float(value)
        if isinstance(kind, type) and isinstance(value, kind):
            return value
    expected = "text" if described.parse is not None else _NAMES.get(kind, str(kind))
    raise NasError(f"{name} must be {expected}; got {value!r:.80}")


def _check_range(name: str, value: object, described: Option) -> None:
    low = -math.inf if described.minimum is None else described.minimum
    high = math.inf if described.maximum is None else described.maximum
    for each in value if isinstance(value, tuple) else (value,):
        is_number = isinstance(each, (int, float)) and not isinstance(each, bool)
        if is_number and (each in (math.inf, -math.inf) or not low <= each <= high):  # NaN too is not in the range
            bounds = "..".join("" if math.isinf(bound) else f"{bound:g}" for bound in (low, high))
            raise NasError(f"{name} must be a finite number in {bounds}; got {each!r:.40}")
