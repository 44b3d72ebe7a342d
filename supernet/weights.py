"""Weights from files, with every key accounted for.

A file is used only if its names and shapes are exactly the expected ones: missing and unexpected names are listed and
refused, and so are tensors that are not plain, finite, real numbers. `KeyTable` translates the names of other packages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from search_spaces import CheckpointError
from search_spaces.files import read_text

__all__ = [
    "KeyTable",
    "checked",
    "instead_of",
    "on_meta",
    "plain_tensors",
    "read_tensors",
    "rename_keys",
    "shards",
    "tensor_names",
    "with_weights",
]


Module = TypeVar("Module", bound=nn.Module)


class KeyTable:
    """Translates names of weights. In an entry, `{n}` stands for a number and `{p}` for weight or bias; both are kept.

    The first matching entry counts.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._patterns = [(_pattern(name), target) for name, target in names.items()]

    def translate(self, name: str) -> str | None:
        """The name on the other side, or None if no entry matches."""
        for pattern, target in self._patterns:
            if match := pattern.fullmatch(name):
                return target.format(**match.groupdict())
        return None

    def inverse(self) -> KeyTable:
        """The table that translates back."""
        return KeyTable({target: name for name, target in self._names.items()})


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{n\}", r"(?P<n>\d+)").replace(r"\{p\}", "(?P<p>weight|bias)"))


def rename_keys(
    source: Path, weights: Mapping[str, Tensor], table: KeyTable, ignored: re.Pattern[str], prefix: str = ""
) -> tuple[dict[str, Tensor], list[str]]:
    """`weights` under the names of `table`, without `prefix`, and the sorted keys that `ignored` matches.

    Raises `CheckpointError` for keys that neither covers, and for two keys of the same weight.
    """
    renamed: dict[str, Tensor] = {}
    skipped: list[str] = []
    unexpected: list[str] = []
    original: dict[str, str] = {}
    for key, value in weights.items():
        name = table.translate(key.removeprefix(prefix))
        target = key if name is None else name
        if target in original:
            raise CheckpointError(f"{source} has one weight under two names: {original[target]} and {key}")
        original[target] = key
        if name is not None:
            renamed[name] = value
        else:
            (skipped if ignored.fullmatch(key) else unexpected).append(key)
    if unexpected:
        raise CheckpointError(f"{source} has {len(unexpected)} unexpected weights: {_first_of(unexpected)}")
    return renamed, sorted(skipped)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, as float32."""
    try:
        return {name: _plain(file, name, value) for name, value in load_file(file).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {file}: {instead_of(file) or error}") from None


def plain_tensors(file: Path, content: object) -> dict[str, Tensor]:
    """`content` as float32 tensors by name, if it is a non-empty mapping of names to plain tensors."""
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{file} holds no weights")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{file}: {name!r} must be a tensor; got {type(value).__name__}")
    return {name: _plain(file, name, value) for name, value in content.items()}


def _plain(file: Path, name: str, value: Tensor) -> Tensor:
    """`value` as float32; refused if it is sparse, complex, quantized, without data, or larger than its storage."""
    special = value.layout is not torch.strided or value.is_complex() or value.is_quantized or value.is_meta
    if special or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(
            f"{file}: {name} must be a plain tensor of real numbers; got {value.dtype}, {value.layout}, "
            f"{tuple(value.shape)} on {value.device.type}"
        )
    return value.float()


def tensor_names(file: Path) -> list[str]:
    """The names in a safetensors file, from its header alone."""
    try:
        with safe_open(file, "pt") as tensors:
            return list(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read {file}: {instead_of(file) or error}") from None


def shards(folder: Path) -> list[Path]:
    """`model.safetensors`, or the shards that `model.safetensors.index.json` lists; empty if there is neither."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        return [whole] if whole.is_file() else []
    try:
        names = sorted(set(json.loads(read_text(index))["weight_map"].values()))
        files = [folder / Path(name).name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"cannot read {index}: {error}") from None
    if gone := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(f"{folder} lacks {gone[0]}, which {index.name} lists")
    return files


def instead_of(file: Path) -> str | None:
    """What stands where weights should be, if it is one of the usual mishaps; None if it is not."""
    if not file.is_file():  # opening a FIFO would wait for ever
        return "it is not a file"
    try:
        with file.open("rb") as opened:
            start = opened.read(200).lstrip().lower()
    except OSError:
        return None
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file: run git lfs pull in its repository"
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "it is a web page, not the file: download it again"
    return None


def checked(
    source: Path | str,
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    spelled: Callable[[str], str] = str,
) -> dict[str, Tensor]:
    """`weights`, if they have exactly the names and shapes of `expected` and hold only finite numbers.

    `spelled` gives the name of a weight in `source`, for messages.
    """
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    for kind, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            raise CheckpointError(f"{source} has {len(names)} {kind} weights: {_first_of([*map(spelled, names)])}")
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{source}: {spelled(name)} must have the shape {tuple(expected[name].shape)}; got {tuple(value.shape)}"
            )
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{source}: {spelled(name)} contains NaN or infinite numbers")
    return dict(weights)


@contextmanager
def on_meta() -> Iterator[None]:
    """Modules made here have sizes and no values."""
    with torch.device("meta"), _NotDrawn():
        yield


class _NotDrawn(TorchFunctionMode):
    """No random values are drawn: on the meta device, torch imports its compiler for that, which takes 2 s."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.__name__ in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def with_weights(
    make: Callable[[], Module], weights: Mapping[str, Tensor], source: Path | str, spelled: Callable[[str], str] = str
) -> Module:
    """The module that `make` returns, with `weights`. Raises `CheckpointError` naming `source` unless they fit exactly.

    They are compared before memory is taken for the module, whose sizes may be those of a hostile file.
    """
    with on_meta():
        expected = make().state_dict()
    fitting = checked(source, weights, expected, spelled)
    module = make()
    module.load_state_dict(fitting, strict=True)
    return module


def _first_of(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
