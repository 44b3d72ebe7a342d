"""The named spaces, as data, and spaces read from TOML files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.errors import SpaceError
from search_spaces.space import Network, Space
from search_spaces.types import JsonMapping, JsonObject

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["DEPTH_MAP", "SPACES", "get_space", "space_from_dict"]

# LightHuBERT drops the last layer of each block of four, from the back (its checkpoint's `depth_maps`), 1-based.
DEPTH_MAP: dict[int, tuple[int, ...]] = {
    6: (1, 2, 5, 6, 9, 10),
    7: (1, 2, 3, 5, 6, 9, 10),
    8: (1, 2, 3, 5, 6, 7, 9, 10),
    9: (1, 2, 3, 5, 6, 7, 9, 10, 11),
    10: (1, 2, 3, 4, 5, 6, 7, 9, 10, 11),
    11: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
    12: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
}


def _conv_layers(channels: int) -> list[list[int]]:
    """wav2vec 2.0's front end: 320 samples a frame, 400 samples of context."""
    return [[channels, 10, 5], *[[channels, 3, 2]] * 4, *[[channels, 2, 2]] * 2]


_HUBERT_BASE = {"conv_layers": _conv_layers(512), "width": 768, "heads": 12, "ffn_dim": 3072}

SPACES: dict[str, JsonObject] = {
    "lighthubert-base": {
        "embed_dims": [512, 640, 768],
        "heads": [8, 10, 12],
        "ffn_ratios": [3.5, 4.0],
        "depths": [12],
        "network": _HUBERT_BASE,
    },
    "lighthubert-small": {
        "embed_dims": [256, 384, 512],
        "heads": [4, 6, 8],
        "ffn_ratios": [3.0, 3.5, 4.0],
        "depths": [10, 11, 12],
        "network": _HUBERT_BASE,
    },
    # Ours: the same shape of network, narrow enough to train and search on a laptop.
    "hubert-tiny": {
        "embed_dims": [128, 160, 192],
        "heads": [2, 4, 6],
        "ffn_ratios": [1.5, 2.5, 3.5],
        "depths": [10, 11, 12],
        "network": {"conv_layers": _conv_layers(96), "width": 192, "heads": 6, "ffn_dim": 672, "head_dim": 32},
    },
}

_KEYS = ("name", "base", "embed_dims", "heads", "ffn_ratios", "depths", "depth_map", "network")
_NETWORK_KEYS = tuple(Network.__dataclass_fields__)


def get_space(name: str) -> Space:
    """The named space, or the one in a TOML file (any name that ends in `.toml`).

    Raises `SpaceError` for an unknown name, or a file that breaks a rule; see `space_from_dict` for its keys.
    """
    if name in SPACES:
        return space_from_dict({"name": name, **SPACES[name]})
    if not str(name).endswith(".toml"):
        raise SpaceError(f"unknown space '{name}'; known: {', '.join(SPACES)}, or a path to a .toml file")
    path = Path(name)
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpaceError(f"cannot read space file {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path} is not a TOML file: {error}") from None
    return space_from_dict({"name": path.stem, **fields})


def space_from_dict(fields: JsonMapping) -> Space:
    """The space that a TOML file (or a checkpoint's `config.json`) describes.

    Keys: `embed_dims`, `heads`, `ffn_ratios` (a list, or one list a layer), `depths` and/or `depth_map`
    (depth -> kept layers, from 1; LightHuBERT's where not given and the network has 12 layers), `network`
    (see `Network`), and `base`: a named space from which every key not given is taken.
    """
    fields = dict(fields)
    name = str(fields.get("name", "unnamed"))
    _known_keys(f"space '{name}'", fields, _KEYS)
    if "base" in fields:
        fields = _inherit(name, fields)
    for key in ("embed_dims", "heads", "ffn_ratios", "network"):
        if key not in fields:
            raise SpaceError(f"space '{name}' has no {key}; give it, or name a base to take it from")
    network = _network(name, fields["network"])
    return Space(
        name=name,
        network=network,
        embed_dims=tuple(_numbers(name, "embed_dims", fields["embed_dims"], whole=True)),
        heads=_per_layer(name, "heads", fields["heads"], network.num_layers, whole=True),
        ffn_ratios=_per_layer(name, "ffn_ratios", fields["ffn_ratios"], network.num_layers, whole=False),
        depth_map=_depth_map(name, fields, network.num_layers),
    )


def _inherit(name: str, fields: JsonObject) -> JsonObject:
    base = fields.pop("base")
    if base not in SPACES:
        raise SpaceError(f"base of space '{name}' must be one of {', '.join(SPACES)}; got {base!r}")
    inherited = dict(SPACES[base])
    if "depth_map" in fields:
        inherited.pop("depths")
    network = fields.get("network", {})
    if not isinstance(network, Mapping):
        raise SpaceError(f"network of space '{name}' must be a table; got {network!r}")
    return {**inherited, **fields, "network": {**inherited["network"], **network}}


def _known_keys(what: str, fields: JsonMapping, known: tuple[str, ...]) -> None:
    unknown = [str(key) for key in fields if key not in known]
    if unknown:
        raise SpaceError(f"unknown key {', '.join(unknown)} in {what}; known: {', '.join(known)}")


def _network(name: str, fields: object) -> Network:
    if not isinstance(fields, Mapping):
        raise SpaceError(f"network of space '{name}' must be a table; got {fields!r}")
    _known_keys(f"network of space '{name}'", fields, _NETWORK_KEYS)
    missing = [key for key in ("conv_layers", "width", "heads", "ffn_dim") if key not in fields]
    if missing:
        raise SpaceError(f"network of space '{name}' has no {', '.join(missing)}")
    layers = fields["conv_layers"]
    if not isinstance(layers, list) or any(
        not isinstance(row, list) or any(type(n) is not int for n in row) for row in layers
    ):
        raise SpaceError(f"conv_layers of space '{name}' must be a list of [channels, kernel, stride]; got {layers!r}")
    return Network(**{**fields, "conv_layers": tuple(tuple(row) for row in layers)})


def _numbers(name: str, key: str, values: object, whole: bool) -> list[Any]:
    kinds = (int,) if whole else (int, float)
    if not isinstance(values, list) or not values or any(type(value) not in kinds for value in values):
        kind = "whole numbers" if whole else "numbers"
        raise SpaceError(f"{key} of space '{name}' must be a list of {kind}; got {values!r}")
    return [value if whole else float(value) for value in values]


def _per_layer(name: str, key: str, values: object, num_layers: int, whole: bool) -> tuple[tuple[Any, ...], ...]:
    if isinstance(values, list) and values and all(isinstance(row, list) for row in values):
        return tuple(tuple(_numbers(name, key, row, whole)) for row in values)
    return (tuple(_numbers(name, key, values, whole)),) * num_layers


def _depth_map(name: str, fields: JsonMapping, num_layers: int) -> dict[int, tuple[int, ...]]:
    defaults = DEPTH_MAP if num_layers == 12 else {num_layers: tuple(range(1, num_layers + 1))}
    values = fields.get("depth_map", {})
    if not isinstance(values, Mapping) or not all(str(depth).isdigit() for depth in values):
        raise SpaceError(f"depth_map of space '{name}' must map a depth to the layers it keeps; got {values!r}")
    known = {**defaults, **{int(d): tuple(_numbers(name, "depth_map", rows, True)) for d, rows in values.items()}}
    depths = _numbers(name, "depths", fields.get("depths", [int(d) for d in values] or [num_layers]), whole=True)
    unknown = [depth for depth in depths if depth not in known]
    if unknown:
        raise SpaceError(f"depth {unknown[0]} of space '{name}' needs a row in depth_map: which layers does it keep?")
    return {depth: tuple(layer - 1 for layer in known[depth]) for depth in depths}
