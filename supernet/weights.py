"""Weights from files, every key accounted for: missing and unexpected ones are named and refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, isfinite, nn, strided

from search_spaces import CheckpointError

__all__ = ["checked", "fill", "listed", "pattern_of", "read_tensors", "renamed", "tensors_of"]


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, as float32."""
    try:
        return {name: plain(file, name, value) for name, value in load_file(file).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {file}: {error}") from None


def checked(what: Path | str, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights`, if they have exactly the names and shapes of `expected` and only finite numbers."""
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    for kind, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            raise CheckpointError(f"{what} has {len(names)} {kind} weights: {listed(names)}")
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{what}: {name} must have the shape {tuple(expected[name].shape)}; got {tuple(value.shape)}"
            )
        if not isfinite(value).all():
            raise CheckpointError(f"{what}: {name} holds NaN or infinite numbers")
    return dict(weights)


def tensors_of(file: Path, content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{file} holds no weights")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{file}: {name!r} must be a tensor; got {type(value).__name__}")
    return {name: plain(file, name, value) for name, value in content.items()}


def plain(file: Path, name: str, value: Tensor) -> Tensor:
    """`value` as float32; refused where it is sparse, complex, quantized, without data, or larger than its data."""
    odd = value.layout is not strided or value.is_complex() or value.is_quantized or value.is_meta
    if odd or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(
            f"{file}: {name} must be a plain tensor of real numbers; got {value.dtype}, {value.layout}, "
            f"{tuple(value.shape)} on {value.device.type}"
        )
    return value.float()


def pattern_of(key: str) -> re.Pattern[str]:
    """A pattern for keys with `{n}` for a number and `{p}` for weight or bias."""
    return re.compile(re.escape(key).replace(r"\{n\}", r"(?P<n>\d+)").replace(r"\{p\}", "(?P<p>weight|bias)"))


def renamed(
    file: Path, weights: Mapping[str, Tensor], table: Mapping[str, str], ignored: re.Pattern[str], prefix: str = ""
) -> tuple[dict[str, Tensor], dict[int, Tensor], list[str]]:
    """Weights under our names, prediction heads by layer (0-based), and the known keys that are not needed."""
    patterns = [(pattern_of(key), name) for key, name in table.items()]
    renamed: dict[str, Tensor] = {}
    heads: dict[int, Tensor] = {}
    skipped: list[str] = []
    unexpected: list[str] = []
    sources: dict[str, str] = {}
    for key, value in weights.items():
        inner = key.removeprefix(prefix)
        match, name = next(((m, name) for p, name in patterns if (m := p.fullmatch(inner))), (None, ""))
        target = name.format(**match.groupdict()) if match else key
        if target in sources:
            raise CheckpointError(f"{file} has one weight under two names: {sources[target]} and {key}")
        sources[target] = key
        if match is None:
            (skipped if ignored.fullmatch(key) else unexpected).append(key)
        elif name == "head {n}":
            heads[int(match["n"])] = value
        else:
            renamed[target] = value
    if unexpected:
        raise CheckpointError(f"{file} has {len(unexpected)} unexpected weights: {listed(unexpected)}")
    return renamed, heads, sorted(skipped)


def fill(file: Path, model: nn.Module, weights: dict[str, Tensor]) -> None:
    model.load_state_dict(checked(file, weights, model.state_dict()), strict=True)


def listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
