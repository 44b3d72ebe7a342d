"""Command-line options generated from settings, and the rules that hold for every command.

    @verb(app, example="nas search --budget 'params<=2.5M' --out runs/a")
    def search(settings: SearchSettings, cluster: ClusterSettings, ...) -> None:

A parameter whose type is a `Settings` class becomes one option for each of its fields; the others are typer's own. What
a field declares (`needs`, `conflicts`) is checked here, so an option without effect is refused in every command. With
`config=True` a command reads its settings from a file too (`--config`), options on top, and shows them resolved
(`--print-config`).
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial, wraps
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from rich.markup import escape

from nas.commands.completion import completer_of
from nas.commands.console import read_text, write_out
from search_spaces.errors import NasError
from search_spaces.settings import Option, Settings, option_of
from search_spaces.types import JsonMapping, JsonObject

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Given", "flag_of", "verb"]

CONFIG = "Settings file"


class Given(frozenset[str]):
    """Names of the settings that the user gave, on the command line or in a file; the others are defaults."""


def flag_of(name: str, described: Option) -> str:
    """The option of a setting: `--macs-seconds`, or the flag that it declares."""
    return described.flag or "--" + name.replace("_", "-")


def verb(
    app: typer.Typer, *, example: str, name: str | None = None, config: bool = False, without: Iterable[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as a command of `app`; see the module. `without`: settings that are no options here."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        parts = {key: hint for key, hint in hints.items() if isinstance(hint, type) and issubclass(hint, Settings)}
        plain = [each for each in inspect.signature(function).parameters.values() if each.name not in parts]
        plain = [each.replace(annotation=hints[each.name]) for each in plain if hints[each.name] is not Given]
        positional = [each for each in plain if _is_argument(each.annotation)]
        flags = [each for each in plain if each not in positional]
        wants_given = next((key for key, hint in hints.items() if hint is Given), None)
        own = _owned(parts.values(), without)
        options = [_parameter(kind, each, config) for kind, settings in own.items() for each in settings.values()]
        options += _config_parameters() if config else []
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

        @wraps(function)
        def run(*, context: typer.Context, **values: Any) -> None:
            file, shown = (values.pop(key, None) for key in ("config_file", "print_config"))
            provided = {name for name in values if _on_command_line(context, name)}
            stored = {} if file is None else _read_config(file, own)
            made = {key: _made(kind, own[kind], values, provided, stored) for key, kind in parts.items()}
            _check_partners(provided | _chosen(stored, made.values()), values, made.values())
            provided |= stored.keys()
            if shown:
                write_out(_as_toml(made.values(), own))
                return
            rest = {each.name: values[each.name] for each in plain}
            function(**made, **rest, **({wants_given: Given(provided)} if wants_given else {}))

        parameters = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in [*positional, *options, *flags, context]
        ]
        for each in parameters:
            _complete(each)
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        app.command(name, epilog=f"Example: {escape(example)}", no_args_is_help=False)(run)
        return function

    return decorate


Owned = Mapping[type[Settings], Mapping[str, "dataclasses.Field[Any]"]]


def _owned(kinds: Iterable[type[Settings]], without: Iterable[str]) -> Owned:
    """The settings of each class that are options: of two with one name, that of the class that comes first."""
    taken = set(without)
    owned: dict[type[Settings], dict[str, dataclasses.Field[Any]]] = {}
    for kind in kinds:
        owned[kind] = {setting.name: setting for setting in fields(kind) if setting.name not in taken}
        taken |= owned[kind].keys()
    return owned


def _parameter(kind: type[Settings], setting: dataclasses.Field[Any], config: bool) -> inspect.Parameter:
    """The typer parameter of one setting; with `config`, a file may give what is required."""
    described, hint = option_of(setting), get_type_hints(kind)[setting.name]
    base, several = _base_type(hint)
    text = described.parse is not None
    shown = str if text else base
    flag = flag_of(setting.name, described)
    about: JsonObject = {"help": escape(_help(described)), "rich_help_panel": described.group}
    if base is bool:
        about["show_default"] = bool(setting.default)
    if shown in (int, float):
        about |= {"min": described.minimum, "max": described.maximum}
    required = setting.default is dataclasses.MISSING
    default: Any = setting.default
    if required:
        default = None if config else inspect.Parameter.empty
    if several:
        about["show_default"] = ", ".join(map(str, default)) if default else False
        annotation: Any = list[shown] | None  # type: ignore[valid-type]
        default = None
    else:
        annotation = shown | None if default is None else shown
    declared = f"{flag}/--no-{flag[2:]}" if base is bool else flag
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, typer.Option(declared, **about)],
    )


def _is_argument(annotation: Any) -> bool:
    return any(isinstance(part, typer.models.ArgumentInfo) for part in get_args(annotation))


def _complete(parameter: inspect.Parameter) -> None:
    """Lets a shell complete an option that takes a name."""
    for part in get_args(parameter.annotation):
        if isinstance(part, typer.models.OptionInfo):
            declared = (part.default, *(part.param_decls or ()))  # in Annotated, typer takes a flag for the default
            flag = next((each for each in declared if isinstance(each, str)), "--" + parameter.name.replace("_", "-"))
            part.autocompletion = completer_of(flag)


def _help(described: Option) -> str:
    """The help text, with the known names if the setting is one of a table."""
    if described.names is None or described.path:
        return described.help
    return f"{described.help} One of {', '.join(described.names())}."


def _base_type(hint: Any) -> tuple[Any, bool]:
    """(type of one value, whether there may be several) of a setting's annotation."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False


def _config_parameters() -> list[inspect.Parameter]:
    make = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    file = typer.Option("--config", help="TOML or JSON file of settings (or a run.json); options override it.",
                        rich_help_panel=CONFIG)  # fmt: skip
    show = typer.Option("--print-config", help="Print the resolved settings as TOML, and exit.", rich_help_panel=CONFIG)
    return [
        make("config_file", default=None, annotation=Annotated[Path | None, file]),
        make("print_config", default=False, annotation=Annotated[bool, show]),
    ]


def _on_command_line(context: typer.Context, name: str) -> bool:
    return getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"


def _made(
    kind: type[Settings],
    own: Mapping[str, dataclasses.Field[Any]],
    values: JsonMapping,
    given: set[str],
    stored: JsonMapping,
) -> Settings:
    """Settings from defaults, then the file, then what was given on the command line."""
    base = {name: value for name, value in stored.items() if name in own}
    for name, setting in own.items():
        if name in given:
            value = values[name]
            base[name] = [_text(each) for each in value] if isinstance(value, (list, tuple)) else _text(value)
        elif setting.default is dataclasses.MISSING and name not in base:
            raise NasError(f"missing option {flag_of(name, option_of(setting))}")
    return kind.from_dict(base)


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _chosen(stored: JsonMapping, made: Iterable[Settings]) -> set[str]:
    """Settings that a file gives another value than the default; --print-config writes defaults too."""
    return {
        setting.name
        for settings in made
        for setting in fields(settings)
        if setting.name in stored and getattr(settings, setting.name) != setting.default
    }


def _check_partners(given: set[str], values: JsonMapping, made: Iterable[Settings]) -> None:
    """Raises `NasError` for an option that has no effect without another, or beside another."""
    known = dict(values)
    described: dict[str, Option] = {}
    for settings in made:
        known |= {setting.name: getattr(settings, setting.name) for setting in fields(settings)}
        described |= {setting.name: option_of(setting) for setting in fields(settings)}
    for name in sorted(given & described.keys()):
        own = described[name]
        flag = flag_of(name, own)
        if known[name] in (None, False, ()):
            continue
        if own.needs and known.get(own.needs) in (None, False, ()):
            partner = flag_of(own.needs, described.get(own.needs, Option()))
            raise NasError(f"{flag} has no effect without {partner}: give {partner} too, or leave {flag} out")
        if own.conflicts and known.get(own.conflicts) not in (None, False, ()):
            other = flag_of(own.conflicts, described.get(own.conflicts, Option()))
            raise NasError(f"{flag} has no effect with {other}: give one of the two")


# -------------------------------------------------------------------- settings files


def _read_config(file: Path, own: Owned) -> JsonObject:
    """The settings in a TOML or JSON file, or in a run.json; raises `NasError` for unknown keys and wrong types."""
    text = read_text(file)
    try:
        record = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise NasError(f"{file} is not {'JSON' if file.suffix == '.json' else 'TOML'}: {error}") from None
    if not isinstance(record, dict):
        raise NasError(f"{file} must hold a table of settings; got a {type(record).__name__}")
    if isinstance(record.get("settings"), dict):  # a run.json
        record = {key: value for key, value in record["settings"].items() if key not in ("calibrations", "command")}
    known = {name: kind for kind, settings in own.items() for name in settings}
    for key in record:
        if key not in known:
            _unknown(file, key, known)
    for kind, settings in own.items():  # so that messages about types name the file
        part = {key: value for key, value in record.items() if known[key] is kind}
        if all(key in part for key, setting in settings.items() if setting.default is dataclasses.MISSING):
            kind.from_dict(part, str(file))
    return record


def _unknown(file: Path, key: str, known: Mapping[str, object]) -> None:
    from difflib import get_close_matches

    close = get_close_matches(str(key), known, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise NasError(f"{file}: unknown setting {str(key)!r}{hint} (known: {', '.join(known)})")


def _as_toml(made: Iterable[Settings], own: Owned) -> str:
    """Settings as TOML that `--config` reads back; what is None is left out."""
    lines = []
    for settings in made:
        for name, value in settings.to_dict().items():
            if value is not None and name in own[type(settings)]:
                lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
