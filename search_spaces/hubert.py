"""The named spaces, as data, and spaces from TOML files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from search_spaces.errors import SpaceError
from search_spaces.files import read_text
from search_spaces.network import Network
from search_spaces.protocols import HasSpace
from search_spaces.space import Space
from search_spaces.types import JsonMapping, JsonObject

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["DEPTH_MAP", "SPACES", "as_space", "get_space", "space_from_dict", "to_toml"]

T = TypeVar("T")

# LightHuBERT drops the last layer of each block of four, last block first (`depth_maps` in its checkpoint); 1-based.
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
    """The front end of wav2vec 2.0: a frame every 320 samples, each with a context of 400 samples."""
    return [[channels, 10, 5], *[[channels, 3, 2]] * 4, *[[channels, 2, 2]] * 2]


_HUBERT_BASE: JsonObject = {"conv_layers": _conv_layers(512), "width": 768, "heads": 12, "ffn_dim": 3072}

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
    # Not LightHuBERT's: a network of the same shape, narrow enough to train and search on a laptop.
    "hubert-tiny": {
        "embed_dims": [128, 160, 192],
        "heads": [0, 1, 2, 3, 4, 5, 6],
        "ffn_ratios": [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5],
        "depths": [12],
        "front_ends": [48, 72, 96],
        "network": {"conv_layers": _conv_layers(96), "width": 192, "heads": 6, "ffn_dim": 672, "head_dim": 32},
    },
}

_KEYS = ("name", "base", "embed_dims", "heads", "ffn_ratios", "depths", "depth_map", "front_ends", "network")
_NETWORK_KEYS = tuple(Network.__dataclass_fields__)


def get_space(name: str) -> Space:
    """The named space, or the space in a TOML file (any name that ends in `.toml`).

    Raises `SpaceError` for an unknown name or an invalid file; see `space_from_dict` for its keys.
    """
    if name in SPACES:
        return space_from_dict({"name": name, **SPACES[name]})
    if not str(name).endswith(".toml"):
        raise SpaceError(f"unknown space '{name}'; known: {', '.join(SPACES)}, or a path to a .toml file")
    path = Path(name)
    try:
        fields = tomllib.loads(read_text(path))
    except OSError as error:
        raise SpaceError(f"cannot read space file {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path} is not a TOML file: {error}") from None
    return space_from_dict({"name": path.stem, **fields})


def as_space(source: Space | HasSpace | str | os.PathLike[str]) -> Space:
    """A space itself, that of a supernet, or the one that `get_space` has under a name or path.

    Raises `SpaceError` for anything else.
    """
    if isinstance(source, (str, os.PathLike)):
        return get_space(os.fspath(source))
    space = source if isinstance(source, Space) else getattr(source, "space", None)
    if not isinstance(space, Space):
        raise SpaceError(f"space must be a Space, its name, a path to a .toml file, or a supernet; got {source!r:.80}")
    return space


def to_toml(space: Space) -> str:
    """The text of a TOML file that `get_space` reads as this space."""
    fields = space.to_dict()
    network, depth_map = fields.pop("network"), fields.pop("depth_map")
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    lines += ["", "[depth_map]", *(f"{depth} = {json.dumps(kept)}" for depth, kept in depth_map.items())]
    lines += ["", "[network]", *(f"{key} = {json.dumps(value)}" for key, value in network.items())]
    return "\n".join(lines) + "\n"


def space_from_dict(fields: JsonMapping) -> Space:
    """The space that a TOML file (or a checkpoint's `config.json`) describes.

    Keys: `embed_dims`, `heads`, `ffn_ratios` (one list, or one list for each layer), `depths` and/or `depth_map`
    (depth -> kept layers, from 1; default for 12 layers: LightHuBERT's), `front_ends` (channels of all convolutions, or
    a list for each of them), `network` (see `Network`), and `base`: a named space that supplies the missing keys.
    """
    fields = dict(fields)
    name = str(fields.get("name", "unnamed"))
    _known_keys(f"space '{name}'", fields, _KEYS)
    if "base" in fields:
        fields = _inherit(name, fields)
    for key in ("embed_dims", "heads", "ffn_ratios", "network"):
        if key not in fields:
            raise SpaceError(f"space '{name}' has no {key}; give it, or name a base that has it")
    network = _network(name, _table(name, fields["network"]))
    return Space(
        name=name,
        network=network,
        embed_dims=_integers(name, "embed_dims", fields["embed_dims"]),
        heads=_per_layer(partial(_integers, name, "heads"), fields["heads"], network.num_layers),
        ffn_ratios=_per_layer(partial(_floats, name, "ffn_ratios"), fields["ffn_ratios"], network.num_layers),
        depth_map=_depth_map(name, fields, network.num_layers),
        front_ends=_front_ends(name, fields.get("front_ends"), network),
    )


def _inherit(name: str, fields: JsonObject) -> JsonObject:
    base = fields.pop("base")
    if not isinstance(base, str) or base not in SPACES:
        raise SpaceError(f"base of space '{name}' must be one of {', '.join(SPACES)}; got {base!r}")
    inherited = dict(SPACES[base])
    if "depth_map" in fields:
        inherited.pop("depths")
    network = {**_table(name, inherited["network"]), **_table(name, fields.get("network", {}))}
    return {**inherited, **fields, "network": network}


def _table(name: str, network: object) -> Mapping[str, object]:
    if not isinstance(network, Mapping):
        raise SpaceError(f"network of space '{name}' must be a table; got {network!r}")
    return network


def _known_keys(what: str, fields: JsonMapping, known: tuple[str, ...]) -> None:
    unknown = [str(key) for key in fields if key not in known]
    if unknown:
        raise SpaceError(f"unknown key {', '.join(unknown)} in {what}; known: {', '.join(known)}")


def _network(name: str, fields: JsonMapping) -> Network:
    _known_keys(f"network of space '{name}'", fields, _NETWORK_KEYS)
    missing = [key for key in ("conv_layers", "width", "heads", "ffn_dim") if key not in fields]
    if missing:
        raise SpaceError(f"network of space '{name}' has no {', '.join(missing)}")
    layers = fields["conv_layers"]
    if not isinstance(layers, list) or any(
        not isinstance(row, list) or any(type(n) is not int for n in row) for row in layers
    ):
        raise SpaceError(f"conv_layers of space '{name}' must be a list of [channels, kernel, stride]; got {layers!r}")
    sizes: JsonObject = {**fields, "conv_layers": tuple(tuple(row) for row in layers)}  # checked by `Network`
    return Network(**sizes)


def _integers(name: str, key: str, values: object) -> tuple[int, ...]:
    if not isinstance(values, list) or not values or any(type(value) is not int for value in values):
        raise SpaceError(f"{key} of space '{name}' must be a list of whole numbers; got {values!r}")
    return tuple(values)


def _floats(name: str, key: str, values: object) -> tuple[float, ...]:
    if not isinstance(values, list) or not values or any(type(value) not in (int, float) for value in values):
        raise SpaceError(f"{key} of space '{name}' must be a list of numbers; got {values!r}")
    return tuple(float(value) for value in values)


def _front_ends(name: str, values: object, network: Network) -> tuple[tuple[int, ...], ...]:
    """The channels of each convolution; one number stands for all of them (a mel's last has the layers' width)."""
    if values is None:
        return ((),)
    if not isinstance(values, list) or not values:
        raise SpaceError(f"front_ends of space '{name}' must be a list of channels; got {values!r:.80}")
    alike = len(network.conv_layers) - network.mel
    last = (network.width,) if network.mel else ()
    profiles = [[value] * alike + [*last] if type(value) is int else value for value in values]
    return tuple(_integers(name, "front_ends", profile) for profile in profiles)


def _per_layer(read: Callable[[object], tuple[T, ...]], values: object, num_layers: int) -> tuple[tuple[T, ...], ...]:
    """The choices of each layer: from one list for all layers, or one list for each."""
    if isinstance(values, list) and values and all(isinstance(row, list) for row in values):
        return tuple(read(row) for row in values)
    return (read(values),) * num_layers


def _depth_map(name: str, fields: JsonMapping, num_layers: int) -> dict[int, tuple[int, ...]]:
    defaults = DEPTH_MAP if num_layers == 12 else {num_layers: tuple(range(1, num_layers + 1))}
    own = fields.get("depth_map", {})
    if not isinstance(own, Mapping) or not all(str(depth).isdigit() for depth in own):
        raise SpaceError(f"depth_map of space '{name}' must map a depth to the layers it keeps; got {own!r}")
    rows = {**defaults, **{int(depth): _integers(name, "depth_map", row) for depth, row in own.items()}}
    depths = _integers(name, "depths", fields.get("depths", [int(depth) for depth in own] or [num_layers]))
    unknown = [depth for depth in depths if depth not in rows]
    if unknown:
        raise SpaceError(f"depth {unknown[0]} of space '{name}' needs a row in depth_map: which layers does it keep?")
    return {depth: tuple(layer - 1 for layer in rows[depth]) for depth in depths}
