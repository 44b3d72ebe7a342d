"""Weights from files, with every key accounted for.

A file is used only if its names and shapes are exactly the expected ones: missing and unexpected names are listed and
refused, and so are tensors that are not plain, finite, real numbers. `KeyTable` translates the names of other packages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from search_spaces import CheckpointError

__all__ = ["KeyTable", "checked", "load_weights", "plain_tensors", "read_tensors", "rename_keys"]


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
        raise CheckpointError(f"cannot read {file}: {error}") from None


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


def checked(source: Path | str, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights`, if they have exactly the names and shapes of `expected` and hold only finite numbers."""
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    for kind, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            raise CheckpointError(f"{source} has {len(names)} {kind} weights: {_first_of(names)}")
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{source}: {name} must have the shape {tuple(expected[name].shape)}; got {tuple(value.shape)}"
            )
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{source}: {name} contains NaN or infinite numbers")
    return dict(weights)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: Path | str) -> None:
    """Copies `weights` into `module`. Raises `CheckpointError` naming `source` unless they fit exactly."""
    module.load_state_dict(checked(source, weights, module.state_dict()), strict=True)


def _first_of(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
