"""Settings as frozen dataclasses: one description of each value for Python, the command line and files.

    @dataclass(frozen=True)
    class SearchSettings(Settings):
        evals: int = option(64, "Evaluations to spend.", minimum=0)

The default stands here and nowhere else. `to_dict` and `from_dict` are what files hold; the command line is generated
from the same fields (`nas.commands.options`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from search_spaces.errors import NasError
from search_spaces.types import JsonMapping, JsonObject

__all__ = ["Option", "Settings", "option", "option_of"]

S = TypeVar("S", bound="Settings")


@dataclass(frozen=True)
class Option:
    """How one setting is shown and checked.

    `flag`: its name on the command line, where that is not the field's own with dashes. `group`: the heading it is
    listed under. `needs`: another field (of any settings of the same command) without which it has no effect.
    `conflicts`: another field that excludes it. `parse`: makes the value, or each value of a tuple, from text.
    `path`: it names a file or folder that exists, `output`: one to be written; files keep them as absolute paths.
    `names`: the known names; of a path, those that are not paths.
    `minimum`, `maximum`: inclusive.
    """

    help: str = ""
    flag: str | None = None
    group: str | None = None
    needs: str | None = None
    conflicts: str | None = None
    parse: Callable[[str], Any] | None = None
    path: bool = False
    output: bool = False
    names: Callable[[], Iterable[str]] | None = None
    minimum: float | None = None
    maximum: float | None = None


def option(default: Any = dataclasses.MISSING, help: str = "", **about: Any) -> Any:
    """A dataclass field with an `Option`; required where no default is given."""
    return field(default=default, metadata={"option": Option(help, **about)})


def option_of(setting: dataclasses.Field[Any]) -> Option:
    """The `Option` of a field."""
    described: Option = setting.metadata.get("option", Option())
    return described


@dataclass(frozen=True)
class Settings:
    """Base of all settings: checked when made, to and from the plain values that JSON and TOML hold."""

    def __post_init__(self) -> None:
        for setting in fields(self):
            _check_range(setting.name, getattr(self, setting.name), option_of(setting))

    def to_dict(self) -> JsonObject:
        """Plain values by field; paths are absolute, and values that were parsed from text are text again."""
        return {setting.name: _plain(getattr(self, setting.name), option_of(setting)) for setting in fields(self)}

    @classmethod
    def from_dict(cls: type[S], values: JsonMapping, source: str = "settings") -> S:
        """Settings from plain values; fields that are absent have their defaults.

        Raises `NasError` naming `source` for unknown keys (listing the known) and values of another type.
        """
        known = {setting.name: setting for setting in fields(cls)}
        for key in values:
            if key not in known:
                close = get_close_matches(str(key), known, 1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise NasError(f"{source}: unknown setting {str(key)!r}{hint} (known: {', '.join(known)})")
        types = get_type_hints(cls)
        made = {
            key: _typed(f"{source}: {key}", value, types[key], option_of(known[key])) for key, value in values.items()
        }
        missing = [name for name, each in known.items() if each.default is dataclasses.MISSING and name not in made]
        if missing:
            raise NasError(f"{source}: missing setting {missing[0]!r}")
        return cls(**made)


def _plain(value: Any, described: Option) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(each, described) for each in value]
    if described.path and isinstance(value, Path):
        return str(value.absolute())
    if described.path and value is not None:
        return str(value) if described.names and str(value) in described.names() else _absolute(str(value))
    if described.output and value is not None:
        return str(value) if "://" in str(value) else str(Path(value).absolute())
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def _absolute(value: str) -> str:
    """`value` as an absolute path if it is an existing path, else as it is: names and URLs stay."""
    try:
        return str(Path(value).absolute()) if "://" not in value and Path(value).exists() else value
    except OSError:
        return value


def _typed(where: str, value: Any, kind: Any, described: Option) -> Any:
    """`value` as a `kind`: what files hold is checked, not guessed at."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        inner = [part for part in parts if part is not type(None)]
        if value is None and len(inner) < len(parts):
            return None
        return _typed(where, value, inner[0], described)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise NasError(f"{where} must be a list; got {value!r:.80}")
        return tuple(_typed(where, each, parts[0], described) for each in value)
    if described.parse is not None and isinstance(value, str):
        return described.parse(value)
    if kind is float and type(value) is int:
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(kind, type) or isinstance(value, bool) is not (kind is bool) or not isinstance(value, kind):
        name = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}.get(kind, str(kind))
        raise NasError(f"{where} must be {name}; got {value!r:.80}")
    return value


def _check_range(name: str, value: Any, described: Option) -> None:
    for each in value if isinstance(value, tuple) else (value,):
        if isinstance(each, (int, float)) and not isinstance(each, bool):
            low, high = described.minimum, described.maximum
            if not math.isfinite(each) or (low is not None and each < low) or (high is not None and each > high):
                bounds = f"{'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
                raise NasError(f"{name} must be a finite number in {bounds}; got {each!r:.40}")
