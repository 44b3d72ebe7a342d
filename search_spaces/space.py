"""The set of subnets that a supernet holds: its choices, its depth map and the network they are slices of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from search_spaces.errors import SpaceError
from search_spaces.network import Network
from search_spaces.subnet import Subnet
from search_spaces.types import JsonObject

__all__ = ["Space"]

T = TypeVar("T")
Profile = tuple[int, ...]


@dataclass(frozen=True)
class Space:
    """All subnets with these choices.

    `heads[l]` and `ffn_ratios[l]` are the choices of the supernet's layer l (0-based); `depth_map[d]` are the
    layers that a subnet of depth d keeps. The per-layer lists of a subnet have one entry for each kept layer, in order.
    0 heads or an FFN ratio of 0 take away that half of a layer. `front_ends` are the channels of the convolutions, one
    profile each; the whole front end is written `()`, so that each architecture has one form.

    Raises `SpaceError` for choices that are empty, not in rising order, or do not fit the network.
    """

    name: str
    network: Network
    embed_dims: tuple[int, ...]
    heads: tuple[tuple[int, ...], ...]
    ffn_ratios: tuple[tuple[float, ...], ...]
    depth_map: Mapping[int, tuple[int, ...]] = field(hash=False)
    front_ends: tuple[Profile, ...] = ((),)

    def __post_init__(self) -> None:
        network = self.network
        _choices(self.name, "embed_dims", self.embed_dims)
        self._check_front_ends()
        for name, per_layer in (("heads", self.heads), ("ffn_ratios", self.ffn_ratios)):
            if len(per_layer) != network.num_layers:
                raise SpaceError(
                    f"{name} of space '{self.name}' must be one list, or one for each of {network.num_layers} layers; "
                    f"got {len(per_layer)} lists"
                )
            for choices in per_layer:
                _choices(self.name, name, choices, least=0)
        if not self.depth_map:
            raise SpaceError(f"space '{self.name}' needs at least one depth")
        for depth, kept in self.depth_map.items():
            if (
                len(kept) != depth
                or list(kept) != sorted(set(kept))
                or not 0 <= kept[0] <= kept[-1] < network.num_layers
            ):
                raise SpaceError(
                    f"depth_map of space '{self.name}' must name {depth} different layers of 1..{network.num_layers} "
                    f"in rising order for depth {depth}; got {[layer + 1 for layer in kept]}"
                )
        object.__setattr__(self, "depth_map", dict(sorted(self.depth_map.items())))
        if len(self.depth_map) > 1 and any(h[0] == r[0] == 0 for h, r in zip(self.heads, self.ffn_ratios, strict=True)):
            raise SpaceError(
                f"space '{self.name}' has layers that 0 heads with FFN ratio 0 take away, and several depths: an "
                "architecture would have two forms; leave out one of the two"
            )
        self._check_fits_network()

    def _check_front_ends(self) -> None:
        network, profiles = self.network, self.front_ends
        whole = network.channels
        given = [profile or whole for profile in profiles]
        for profile in given:
            fits = len(profile) == len(whole) and all(type(c) is int and c >= 1 for c in profile)
            if not fits or any(c > most for c, most in zip(profile, whole, strict=True)):
                raise SpaceError(
                    f"front_ends of space '{self.name}' must be channels, or a list of them for each of the "
                    f"{len(whole)} convolutions, up to {list(whole)}; got {list(profile)!r:.100}"
                )
            if network.mel and profile[-1] != network.width:
                raise SpaceError(
                    f"the last convolution of front_ends of space '{self.name}' must have width={network.width}, as "
                    f"the layers read it; got {list(profile)}"
                )
        if not given or given != sorted(set(given), key=_work(network)):
            raise SpaceError(
                f"front_ends of space '{self.name}' must be different, from the smallest to the largest; "
                f"got {[list(profile) for profile in given]}"
            )
        object.__setattr__(self, "front_ends", tuple(() if profile == whole else profile for profile in given))

    def _check_fits_network(self) -> None:
        network = self.network
        for embed_dim in self.embed_dims:
            grouped = not network.rotated and embed_dim % network.pos_conv_groups  # else no convolution has so few
            if embed_dim > network.width or grouped:
                raise SpaceError(
                    f"embed_dims of space '{self.name}' must be multiples of pos_conv_groups={network.pos_conv_groups} "
                    f"up to width={network.width}; got {embed_dim}"
                )
            for ratio in {ratio for ratios in self.ffn_ratios for ratio in ratios}:
                blocks, rest = divmod(int(ratio * embed_dim), embed_dim)
                held = blocks * network.width + (rest or embed_dim - network.width) <= network.ffn_dim
                if ratio and not (held and ratio * embed_dim >= 1):
                    raise SpaceError(
                        f"FFN ratio {ratio:g} at embed dim {embed_dim} of space '{self.name}' does not fit the stored "
                        f"ffn_dim={network.ffn_dim} in blocks of {network.width}"
                    )
        most = max(heads for choices in self.heads for heads in choices)
        if most > network.heads:
            raise SpaceError(f"heads={most} of space '{self.name}' is over the stored {network.heads}")

    # ---------------------------------------------------------------- the set

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths, in rising order."""
        return tuple(self.depth_map)

    @property
    def output_dims(self) -> tuple[int, ...]:
        """The dims that the last hidden state can have: a rotated network always gives all."""
        return tuple(dict.fromkeys(self.network.outer(embed_dim) for embed_dim in self.embed_dims))

    @property
    def elastic_front_end(self) -> bool:
        """Whether there is a choice of front ends."""
        return len(self.front_ends) > 1

    @cached_property
    def choices(self) -> tuple[tuple[Any, ...], ...]:
        """Of each entry of a chain: (heads, FFN ratio) pairs of each of the supernet's layers, heads outermost.

        If there is a choice of front ends, they are one more entry, after the layers'.
        """
        layers = (tuple(product(h, r)) for h, r in zip(self.heads, self.ffn_ratios, strict=True))
        return (*layers, self.front_ends) if self.elastic_front_end else tuple(layers)

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Of each entry of `choices`: the number of heads and of FFN ratios, or that of front ends and 1."""
        layers = ((len(h), len(r)) for h, r in zip(self.heads, self.ffn_ratios, strict=True))
        return (*layers, (len(self.front_ends), 1)) if self.elastic_front_end else tuple(layers)

    @cached_property
    def chains(self) -> tuple[tuple[int, ...], ...]:
        """For each depth, the entries of `choices` that a subnet chooses: the front end's, if any, and its layers'."""
        first = (self.network.num_layers,) if self.elastic_front_end else ()
        return tuple((*first, *kept) for kept in self.depth_map.values())

    @cached_property
    def size(self) -> int:
        """Number of subnets, exactly."""
        per_embed = sum(math.prod(len(self.choices[entry]) for entry in chain) for chain in self.chains)
        return len(self.embed_dims) * per_embed

    def subnet(self, embed_dim: int, chosen: Sequence[tuple[int, Any]]) -> Subnet:
        """The subnet of an embed dim and, for each entry of one of the `chains`, (entry, one of its choices)."""
        front_end = chosen[0][1] if self.elastic_front_end else self.front_ends[0]
        layers = [choice for _, choice in chosen[self.elastic_front_end :]]
        heads, ratios = zip(*layers, strict=True)
        return Subnet._trusted(embed_dim, heads, ratios, front_end)

    def chosen_by(self, subnet: Subnet) -> list[tuple[int, Any]]:
        """The inverse of `subnet`: (entry, choice) along the subnet's chain."""
        front = [(self.network.num_layers, subnet.front_end)] if self.elastic_front_end else []
        return [*front, *self.layers_of(subnet).items()]

    @cached_property
    def largest(self) -> Subnet:
        """The subnet with the most of everything."""
        kept = self.depth_map[max(self.depths)]
        heads, ratios = tuple(max(self.heads[i]) for i in kept), tuple(max(self.ffn_ratios[i]) for i in kept)
        return Subnet(max(self.embed_dims), heads, ratios, self.front_ends[-1])

    @cached_property
    def smallest(self) -> Subnet:
        """The subnet with the least of everything."""
        kept = self.depth_map[min(self.depths)]
        heads, ratios = tuple(min(self.heads[i]) for i in kept), tuple(min(self.ffn_ratios[i]) for i in kept)
        return Subnet(min(self.embed_dims), heads, ratios, self.front_ends[0])

    @cached_property
    def middle(self) -> Subnet:
        """The subnet with the middle (upper median) of every choice: the shape of LightHuBERT's default subnet."""
        kept = self.depth_map[_middle(self.depths)]
        return Subnet(
            _middle(self.embed_dims),
            tuple(_middle(self.heads[i]) for i in kept),
            tuple(_middle(self.ffn_ratios[i]) for i in kept),
            _middle(self.front_ends),
        )

    def covering(self) -> Iterator[Subnet]:
        """Few subnets that together have every choice, and of every depth the layers that it keeps."""
        most = max(len(values) for values in (self.embed_dims, self.front_ends, *self.heads, *self.ffn_ratios))
        for kept in self.depth_map.values():
            for i in range(most):
                yield Subnet(
                    self.embed_dims[i % len(self.embed_dims)],
                    tuple(self.heads[layer][i % len(self.heads[layer])] for layer in kept),
                    tuple(self.ffn_ratios[layer][i % len(self.ffn_ratios[layer])] for layer in kept),
                    self.front_ends[i % len(self.front_ends)],
                )

    def only(self, subnet: Subnet) -> Space:
        """The space of this subnet alone."""
        self.check(subnet)
        chosen = self.layers_of(subnet)
        return replace(
            self,
            name=f"{self.name}-{subnet.id}",
            embed_dims=(subnet.embed_dim,),
            heads=tuple((chosen[i][0],) if i in chosen else own for i, own in enumerate(self.heads)),
            ffn_ratios=tuple((chosen[i][1],) if i in chosen else own for i, own in enumerate(self.ffn_ratios)),
            depth_map={subnet.depth: self.kept_layers(subnet.depth)},
            front_ends=(subnet.front_end,),
        )

    def kept_layers(self, depth: int) -> tuple[int, ...]:
        """The layers (0-based) of the supernet that a subnet of this depth keeps."""
        if depth not in self.depth_map:
            raise SpaceError(f"depth={depth} is not in space '{self.name}'; allowed: {_listed(self.depths)}")
        return self.depth_map[depth]

    def check(self, subnet: Subnet) -> None:
        """Raises `SpaceError` naming the first choice of `subnet` that this space does not have."""
        if subnet.embed_dim not in self.embed_dims:
            raise SpaceError(
                f"embed_dim={subnet.embed_dim} is not in space '{self.name}'; allowed: {_listed(self.embed_dims)}"
            )
        if subnet.front_end not in self.front_ends:
            raise SpaceError(
                f"front_end={_front_end_text(subnet.front_end)} is not in space '{self.name}'; allowed: "
                f"{', '.join(map(_front_end_text, self.front_ends))}"
            )
        for i, layer in enumerate(self.kept_layers(subnet.depth)):
            for name, value, allowed in (
                ("heads", subnet.heads[i], self.heads[layer]),
                ("ffn_ratios", subnet.ffn_ratios[i], self.ffn_ratios[layer]),
            ):
                if value not in allowed:
                    raise SpaceError(
                        f"{name}[{i}]={value:g} is not in space '{self.name}'; allowed: {_listed(allowed)}"
                    )

    def contains(self, subnet: Subnet) -> bool:
        """Whether this space has all choices of `subnet`."""
        try:
            self.check(subnet)
        except SpaceError:
            return False
        return True

    __contains__ = contains

    def __iter__(self) -> Iterator[Subnet]:
        """Every subnet, one at a time: for spaces small enough to enumerate."""
        for embed_dim in self.embed_dims:
            for chain in self.chains:
                for chosen in product(*(self.choices[entry] for entry in chain)):
                    yield self.subnet(embed_dim, list(zip(chain, chosen, strict=True)))

    # ---------------------------------------------------------------- drawing

    def sample(self, rng: np.random.Generator) -> Subnet:
        """One subnet, with each choice drawn uniformly (embed dim, depth, each kept layer), as LightHuBERT trains.

        This is not uniform over subnets, since there are more of the deeper ones; `AdditiveTable.sample` is.
        """
        chain = _pick(rng, self.chains)
        chosen = [(entry, _pick(rng, self.choices[entry])) for entry in chain]
        return self.subnet(_pick(rng, self.embed_dims), chosen)

    def mutate(self, subnet: Subnet, rng: np.random.Generator, rate: float = 0.1) -> Subnet:
        """`subnet` with each of its choices redrawn with probability `rate`; layers that it did not keep are drawn."""
        depth = _pick(rng, self.depths) if rng.random() < rate else subnet.depth
        embed_dim = _pick(rng, self.embed_dims) if rng.random() < rate else subnet.embed_dim
        own = self.layers_of(subnet)
        front_end = _pick(rng, self.front_ends) if self.elastic_front_end and rng.random() < rate else subnet.front_end
        layers = []
        for layer in self.depth_map[depth]:
            heads, ratio = own.get(layer) or _pick(rng, self.choices[layer])
            heads = _pick(rng, self.heads[layer]) if rng.random() < rate else heads
            ratio = _pick(rng, self.ffn_ratios[layer]) if rng.random() < rate else ratio
            layers.append((heads, ratio))
        return Subnet(embed_dim, tuple(h for h, _ in layers), tuple(r for _, r in layers), front_end)

    def crossover(self, a: Subnet, b: Subnet, rng: np.random.Generator) -> Subnet:
        """A child that takes each choice from one of its parents; layers are matched by their index in the supernet."""
        layers_a, layers_b = self.layers_of(a), self.layers_of(b)
        kept = self.depth_map[_pick(rng, (a.depth, b.depth))]
        parents = [[own[layer] for own in (layers_a, layers_b) if layer in own] for layer in kept]
        heads = tuple(_pick(rng, options)[0] for options in parents)
        ratios = tuple(_pick(rng, options)[1] for options in parents)
        front_end = _pick(rng, (a.front_end, b.front_end)) if self.elastic_front_end else a.front_end
        return Subnet(_pick(rng, (a.embed_dim, b.embed_dim)), heads, ratios, front_end)

    def layers_of(self, subnet: Subnet) -> dict[int, tuple[int, float]]:
        """(heads, FFN ratio) of each layer of the supernet that `subnet` keeps."""
        kept = self.kept_layers(subnet.depth)
        return dict(zip(kept, zip(subnet.heads, subnet.ffn_ratios, strict=True), strict=True))

    # ---------------------------------------------------------------- integer vectors

    @property
    def vector_size(self) -> int:
        """Entries of a vector."""
        return 2 + 2 * len(self.choices)

    def encode(self, subnet: Subnet) -> npt.NDArray[np.int64]:
        """Indices of embed dim, depth, then (heads, FFN ratio) of every supernet layer; -1 for layers not kept.

        If there is a choice of front ends, its index and a 0 follow.
        """
        self.check(subnet)
        vector = np.full(self.vector_size, -1, dtype=np.int64)
        vector[:2] = self.embed_dims.index(subnet.embed_dim), self.depths.index(subnet.depth)
        for layer, (heads, ratio) in self.layers_of(subnet).items():
            vector[2 + 2 * layer] = self.heads[layer].index(heads)
            vector[3 + 2 * layer] = self.ffn_ratios[layer].index(ratio)
        if self.elastic_front_end:
            vector[-2:] = self.front_ends.index(subnet.front_end), 0
        return vector

    def decode(self, vector: Sequence[int] | npt.NDArray[np.int64]) -> Subnet:
        """The subnet of an `encode`d vector; entries of layers that it does not keep are ignored."""
        values = [int(value) for value in vector]
        if len(values) != self.vector_size:
            raise SpaceError(f"a vector of space '{self.name}' has {self.vector_size} entries; got {len(values)}")
        embed_dim = _at(self.name, "embed dim", self.embed_dims, values[0])
        kept = self.depth_map[_at(self.name, "depth", self.depths, values[1])]
        heads = tuple(_at(self.name, "heads", self.heads[i], values[2 + 2 * i]) for i in kept)
        ratios = tuple(_at(self.name, "ffn_ratios", self.ffn_ratios[i], values[3 + 2 * i]) for i in kept)
        front = values[-2] if self.elastic_front_end else 0
        return Subnet(embed_dim, heads, ratios, _at(self.name, "front_ends", self.front_ends, front))

    def chosen(self, vectors: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(N, entries): the index into `choices[i]` for each row of encoded vectors; -1 for layers not kept."""
        second = np.array([ratios for _, ratios in self.sizes])
        return np.where(vectors[:, 2::2] < 0, -1, vectors[:, 2::2] * second + vectors[:, 3::2])

    # ---------------------------------------------------------------- as data

    def to_dict(self) -> JsonObject:
        """Plain containers, as in a TOML space file (layers count from 1)."""
        return {
            "name": self.name,
            "embed_dims": list(self.embed_dims),
            "heads": _folded(self.heads),
            "ffn_ratios": _folded(self.ffn_ratios),
            "depth_map": {str(depth): [layer + 1 for layer in kept] for depth, kept in self.depth_map.items()},
            **({} if self.front_ends == ((),) else {"front_ends": self._front_end_lists()}),
            "network": self.network.to_dict(),
        }

    def _front_end_lists(self) -> list[object]:
        """Each front end as one number if all convolutions have as many channels, else as a list."""
        profiles = [profile or self.network.channels for profile in self.front_ends]
        return [profile[0] if len(set(profile)) == 1 else list(profile) for profile in profiles]


def _choices(space: str, name: str, values: Sequence[float], least: int = 1) -> None:
    if not values or list(values) != sorted(set(values)) or values[0] < 0 or (least and not values[0]):
        kind = "positive numbers" if least else "numbers, 0 or more,"
        raise SpaceError(f"{name} of space '{space}' must be different {kind} in rising order; got {list(values)}")


def _work(network: Network) -> Callable[[Profile], tuple[int, Profile]]:
    """Orders front ends: by their multiply-adds a frame."""

    def work(profile: Profile) -> tuple[int, Profile]:
        inputs, steps = (network.mels or 1, *profile), network.hop
        total = 0
        for i, (_, kernel, stride) in enumerate(network.conv_layers):
            steps = max(1, steps // stride)
            total += steps * kernel * inputs[i] * profile[i]
        return total, profile

    return work


def _front_end_text(profile: Profile) -> str:
    return "whole" if not profile else str(profile[0]) if len(set(profile)) == 1 else str(list(profile))


def _folded(per_layer: Sequence[Sequence[object]]) -> list[object]:
    """One list if all layers have the same choices, else one list for each layer."""
    return list(per_layer[0]) if len(set(per_layer)) == 1 else [list(choices) for choices in per_layer]


def _middle(values: Sequence[T]) -> T:
    return values[len(values) // 2]


def _pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    return values[int(rng.integers(len(values)))]


def _at(space: str, name: str, values: Sequence[T], index: int) -> T:
    if not 0 <= index < len(values):
        raise SpaceError(f"index {index} for {name} is not in space '{space}'; allowed: 0..{len(values) - 1}")
    return values[index]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
