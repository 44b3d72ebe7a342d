"""One architecture of a space, and its three forms in files: canonical JSON, id, LightHuBERT's dict."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import SupportsFloat, SupportsIndex

from search_spaces.errors import SpaceError
from search_spaces.types import JsonMapping, JsonObject

__all__ = ["Subnet", "ffn_ratio"]

_KEYS = ("embed_dim", "heads", "ffn_ratios", "front_end")
_LIGHTHUBERT_KEYS = ("atten_dim", "embed_dim", "ffn_embed", "heads_num", "layer_num", "slide_wsz")


@dataclass(frozen=True, slots=True, repr=False)
class Subnet:
    """One architecture: embed dim D, and heads H and FFN ratio for each KEPT layer, in order.

    0 heads: the layer has no attention; FFN ratio 0: no FFN. `front_end`: channels of each convolution, or () for all
    that the supernet stores.

    Layers that are not kept have no entries, so that each architecture has exactly one form and one `id`. The depth
    map of the space says which layers of the supernet a depth keeps.

    Raises `SpaceError` if a number is out of its range, or the two tuples differ in length.
    """

    embed_dim: int
    heads: tuple[int, ...]
    ffn_ratios: tuple[float, ...]
    front_end: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self._plain():
            self._convert()
        if not self.heads or len(self.heads) != len(self.ffn_ratios):
            raise SpaceError(
                f"heads and ffn_ratios need one entry for each kept layer; got {len(self.heads)} and "
                f"{len(self.ffn_ratios)}"
            )

    def __repr__(self) -> str:
        """A call that makes it, short where layers are alike: Subnet(192, (4,) * 12, (2.5,) * 12)."""
        front_end = f", {_tuple_text(self.front_end)}" if self.front_end else ""
        return f"Subnet({self.embed_dim}, {_tuple_text(self.heads)}, {_tuple_text(self.ffn_ratios)}{front_end})"

    def _plain(self) -> bool:
        """Whether all values are in range and of the final types: nearly always, and ledgers hold thousands."""
        return (
            type(self.embed_dim) is int
            and self.embed_dim > 0
            and type(self.heads) is type(self.ffn_ratios) is type(self.front_end) is tuple
            and all(type(heads) is int and heads >= 0 for heads in self.heads)
            and all(type(ratio) is float and 0 <= ratio < math.inf for ratio in self.ffn_ratios)
            and all(type(channels) is int and channels > 0 for channels in self.front_end)
        )

    def _convert(self) -> None:
        """Makes whole numbers of 4.0, and raises `SpaceError` naming the first value that is out of its range."""
        object.__setattr__(self, "embed_dim", _whole("embed_dim", self.embed_dim))
        object.__setattr__(self, "heads", tuple(_whole(f"heads[{i}]", h, 0) for i, h in enumerate(self.heads)))
        object.__setattr__(
            self, "ffn_ratios", tuple(_not_negative(f"ffn_ratios[{i}]", r) for i, r in enumerate(self.ffn_ratios))
        )
        object.__setattr__(self, "front_end", tuple(_whole(f"front_end[{i}]", c) for i, c in enumerate(self.front_end)))

    @property
    def depth(self) -> int:
        """Number of kept layers."""
        return len(self.heads)

    @property
    def uniform(self) -> bool:
        """Whether all layers are alike."""
        return len(set(self.heads)) == len(set(self.ffn_ratios)) == 1

    @property
    def ffn_dims(self) -> tuple[int, ...]:
        """FFN dim F of each kept layer: int(ratio * D)."""
        return tuple(int(ratio * self.embed_dim) for ratio in self.ffn_ratios)

    @property
    def id(self) -> str:
        """12 hex digits of the SHA-256 of the canonical JSON; the same on every machine."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    @classmethod
    def _trusted(
        cls, embed_dim: int, heads: tuple[int, ...], ffn_ratios: tuple[float, ...], front_end: tuple[int, ...] = ()
    ) -> Subnet:
        """A subnet made without checks, for choices that come from a space and are drawn in thousands."""
        subnet = object.__new__(cls)
        object.__setattr__(subnet, "embed_dim", embed_dim)
        object.__setattr__(subnet, "heads", heads)
        object.__setattr__(subnet, "ffn_ratios", ffn_ratios)
        object.__setattr__(subnet, "front_end", front_end)
        return subnet

    def to_dict(self) -> JsonObject:
        """Plain containers, in the canonical key order; the whole front end is left out."""
        front_end = {"front_end": list(self.front_end)} if self.front_end else {}
        return {
            "embed_dim": self.embed_dim,
            "heads": list(self.heads),
            "ffn_ratios": list(self.ffn_ratios),
            **front_end,
        }

    def to_json(self) -> str:
        """Canonical JSON: fixed key order, no spaces, ratios as floats."""
        heads, ratios = ",".join(map(str, self.heads)), ",".join(map(repr, self.ffn_ratios))
        front_end = f',"front_end":[{",".join(map(str, self.front_end))}]' if self.front_end else ""
        return f'{{"embed_dim":{self.embed_dim},"heads":[{heads}],"ffn_ratios":[{ratios}]{front_end}}}'

    @classmethod
    def from_dict(cls, fields: JsonMapping) -> Subnet:
        """The subnet of a dict as `to_dict` returns it. Raises `SpaceError` for unknown and missing keys."""
        _check_keys(fields, _KEYS, "a subnet", ("front_end",))
        front_end = fields.get("front_end", [])
        for key, value, of in (
            ("heads", fields["heads"], "layer"),
            ("ffn_ratios", fields["ffn_ratios"], "layer"),
            ("front_end", front_end, "convolution"),
        ):
            if not isinstance(value, (list, tuple)):
                raise SpaceError(f"{key} must be a list with one entry for each {of}; got {value!r}")
        return cls(fields["embed_dim"], tuple(fields["heads"]), tuple(fields["ffn_ratios"]), tuple(front_end))

    @classmethod
    def from_json(cls, text: str) -> Subnet:
        """The subnet in JSON text, in our form or in LightHuBERT's."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpaceError(f"a subnet must be JSON such as {_EXAMPLE}; got {_brief(text)} ({error})") from None
        if isinstance(fields, Mapping) and "heads_num" in fields:
            return cls.from_lighthubert(fields)
        if isinstance(fields, Mapping) and set(fields) > {"subnet"} and isinstance(fields["subnet"], Mapping):
            fields = fields["subnet"]  # the best.json of a run
        return cls.from_dict(fields)

    def to_lighthubert(self, head_dim: int = 64) -> JsonObject:
        """LightHuBERT's subnet dict, with global attention in every layer.

        Raises `SpaceError` for what it cannot express: layers without a half, and a narrower front end.
        """
        if self.front_end or not all((*self.heads, *self.ffn_dims)):
            raise SpaceError(
                f"LightHuBERT's dict cannot express subnet {self.id}: it has no layers without attention or FFN and "
                "no narrower front end"
            )
        return {
            "atten_dim": [head_dim * heads for heads in self.heads],
            "embed_dim": self.embed_dim,
            "ffn_embed": list(self.ffn_dims),
            "heads_num": list(self.heads),
            "layer_num": self.depth,
            "slide_wsz": ["global"] * self.depth,
        }

    @classmethod
    def from_lighthubert(cls, fields: JsonMapping, head_dim: int = 64) -> Subnet:
        """The subnet of LightHuBERT's dict. Entries beyond `layer_num` belong to no layer and are ignored.

        `atten_dim`, `slide_wsz` and the release's `ffn_ratio` may be missing. Raises `SpaceError` if they contradict
        the rest, and for integer attention windows (`slide_wsz`): only global attention is supported.
        """
        _check_keys(
            fields, (*_LIGHTHUBERT_KEYS, "ffn_ratio"), "a LightHuBERT subnet", ("atten_dim", "slide_wsz", "ffn_ratio")
        )
        depth = _whole("layer_num", fields["layer_num"])
        per_layer: dict[str, list[object]] = {}
        for key in ("heads_num", "ffn_embed", "atten_dim", "slide_wsz"):
            if key in fields:
                values = fields[key]
                if not isinstance(values, (list, tuple)) or len(values) < depth:
                    raise SpaceError(f"{key} needs one entry for each of layer_num={depth} layers; got {values!r}")
                per_layer[key] = list(values[:depth])
        embed_dim = _whole("embed_dim", fields["embed_dim"])
        for i, window in enumerate(per_layer.get("slide_wsz", ())):
            if window != "global":
                raise SpaceError(f"slide_wsz[{i}]={window!r}: local attention windows are not supported; use 'global'")
        heads = [_whole(f"heads_num[{i}]", h) for i, h in enumerate(per_layer["heads_num"])]
        for i, attention_dim in enumerate(per_layer.get("atten_dim", ())):
            if attention_dim != head_dim * heads[i]:
                raise SpaceError(
                    f"atten_dim[{i}]={attention_dim} must be {head_dim} * heads_num[{i}]={head_dim * heads[i]}"
                )
        ratios = [ffn_ratio(_whole(f"ffn_embed[{i}]", f), embed_dim) for i, f in enumerate(per_layer["ffn_embed"])]
        return cls(embed_dim, tuple(heads), tuple(ratios))


_EXAMPLE = '{"embed_dim":384,"heads":[6,6],"ffn_ratios":[4.0,3.5]}'


def _tuple_text(values: tuple[float, ...]) -> str:
    return f"({values[0]!r},) * {len(values)}" if len(values) > 3 and len(set(values)) == 1 else repr(values)


def ffn_ratio(ffn_dim: int, embed_dim: int) -> float:
    """The shortest decimal ratio r with int(r * D) == F."""
    if ffn_dim == 0:
        return 0.0
    for digits in range(1, 17):
        ratio = round(ffn_dim / embed_dim, digits)
        if int(ratio * embed_dim) == ffn_dim:
            return ratio
    return math.nextafter(ffn_dim / embed_dim, math.inf)


def _check_keys(fields: object, known: tuple[str, ...], what: str, optional: tuple[str, ...] = ()) -> None:
    if not isinstance(fields, Mapping):
        raise SpaceError(f"{what} must be an object with the keys {', '.join(known)}; got {_brief(fields)}")
    unknown = [str(key) for key in fields if key not in known]
    missing = [key for key in known if key not in fields and key not in optional]
    if unknown or missing:
        wrong = "; ".join(
            f"{word} {', '.join(keys)}" for word, keys in (("unknown", unknown), ("missing", missing)) if keys
        )
        raise SpaceError(f"{what} has the keys {', '.join(known)}; {wrong}")


def _whole(name: str, value: object, least: int = 1) -> int:
    kind = "a positive whole number" if least else "a whole number, 0 or more"
    if isinstance(value, bool) or not isinstance(value, (int, float, SupportsIndex)):
        raise SpaceError(f"{name} must be {kind}; got {value!r}")
    number = value if isinstance(value, (int, float)) else value.__index__()
    if (isinstance(number, float) and not number.is_integer()) or number < least:
        raise SpaceError(f"{name} must be {kind}; got {value!r}")
    return int(number)


def _not_negative(name: str, value: object) -> float:
    if isinstance(value, (int, float, SupportsFloat)) and not isinstance(value, (bool, str)):
        with suppress(OverflowError):
            number = float(value)
            if 0 <= number < math.inf:
                return number
    raise SpaceError(f"{name} must be a number, 0 or more; got {value!r}")


def _brief(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
