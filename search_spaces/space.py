"""The set of subnets that a supernet holds: its choices, its depth map and the network they are slices of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from search_spaces.errors import SpaceError
from search_spaces.subnet import Subnet
from search_spaces.types import JsonObject

__all__ = ["Network", "Space"]

ConvLayer = tuple[int, int, int]
T = TypeVar("T")

MAX_LAYERS = 1_000  # far beyond any network, so that a broken file takes neither hours nor all memory
MAX_SIZE = 1_000_000


@dataclass(frozen=True)
class Network:
    """The stored network. Every subnet takes slices of its Transformer layers and shares its front end.

    `conv_layers` holds (channels, kernel, stride) of the front end, which is never sliced; `width`, `heads`
    and `ffn_dim` are the stored sizes of each Transformer layer. FFN units are stored in blocks of `width`
    (see `supernet.slicing`), so `ffn_dim` is usually a multiple of it.
    """

    conv_layers: tuple[ConvLayer, ...]
    width: int
    heads: int
    ffn_dim: int
    num_layers: int = 12
    head_dim: int = 64
    pos_conv_kernel: int = 128
    pos_conv_groups: int = 16

    def __post_init__(self) -> None:
        layers = tuple(tuple(layer) for layer in self.conv_layers)
        sizes = [size for layer in layers for size in layer]
        whole = all(len(layer) == 3 for layer in layers) and all(type(size) is int for size in sizes)
        if not 1 <= len(layers) <= MAX_LAYERS or not whole or not 1 <= min(sizes) <= max(sizes) <= MAX_SIZE:
            raise SpaceError(f"conv_layers must be a list of [channels, kernel, stride]; got {self.conv_layers!r:.200}")
        object.__setattr__(self, "conv_layers", layers)
        for name in ("width", "heads", "ffn_dim", "num_layers", "head_dim", "pos_conv_kernel", "pos_conv_groups"):
            value = getattr(self, name)
            most = MAX_LAYERS if name == "num_layers" else MAX_SIZE
            if type(value) is not int or not 1 <= value <= most:
                raise SpaceError(f"network.{name} must be a whole number in 1..{most:,}; got {value!r:.100}")

    @property
    def conv_channels(self) -> int:
        """Channels that the front end passes to the projection."""
        return self.conv_layers[-1][0]

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(stride for _, _, stride in self.conv_layers)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame depends on: the length of the shortest recording that has a frame."""
        field_, jump = 1, 1
        for _, kernel, stride in self.conv_layers:
            field_ += (kernel - 1) * jump
            jump *= stride
        return field_

    def frames(self, samples: int) -> int:
        """Frames T of audio with S `samples` (0 if it is too short)."""
        for _, kernel, stride in self.conv_layers:
            samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
        return samples

    def to_dict(self) -> JsonObject:
        """Plain containers, as the `network` table of a TOML space file."""
        return {
            "conv_layers": [list(layer) for layer in self.conv_layers],
            "width": self.width,
            "heads": self.heads,
            "ffn_dim": self.ffn_dim,
            "num_layers": self.num_layers,
            "head_dim": self.head_dim,
            "pos_conv_kernel": self.pos_conv_kernel,
            "pos_conv_groups": self.pos_conv_groups,
        }


@dataclass(frozen=True)
class Space:
    """All subnets with these choices.

    `heads[l]` and `ffn_ratios[l]` are the choices of the supernet's layer l (0-based); `depth_map[d]` are the
    layers that a subnet of depth d keeps. The per-layer lists of a subnet have one entry for each kept layer, in order.

    Raises `SpaceError` for choices that are empty, not in rising order, or do not fit the network.
    """

    name: str
    network: Network
    embed_dims: tuple[int, ...]
    heads: tuple[tuple[int, ...], ...]
    ffn_ratios: tuple[tuple[float, ...], ...]
    depth_map: Mapping[int, tuple[int, ...]] = field(hash=False)

    def __post_init__(self) -> None:
        network = self.network
        _choices(self.name, "embed_dims", self.embed_dims)
        for name, per_layer in (("heads", self.heads), ("ffn_ratios", self.ffn_ratios)):
            if len(per_layer) != network.num_layers:
                raise SpaceError(
                    f"{name} of space '{self.name}' must be one list, or one for each of {network.num_layers} layers; "
                    f"got {len(per_layer)} lists"
                )
            for choices in per_layer:
                _choices(self.name, name, choices)
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
        self._check_fits_network()

    def _check_fits_network(self) -> None:
        network = self.network
        for embed_dim in self.embed_dims:
            if embed_dim > network.width or embed_dim % network.pos_conv_groups:
                raise SpaceError(
                    f"embed_dims of space '{self.name}' must be multiples of pos_conv_groups={network.pos_conv_groups} "
                    f"up to width={network.width}; got {embed_dim}"
                )
            for ratio in {ratio for ratios in self.ffn_ratios for ratio in ratios}:
                blocks, rest = divmod(int(ratio * embed_dim), embed_dim)
                if (
                    blocks * network.width + (rest or embed_dim - network.width) > network.ffn_dim
                    or ratio * embed_dim < 1
                ):
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

    @cached_property
    def choices(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        """(heads, FFN ratio) pairs of each of the supernet's layers, heads outermost."""
        return tuple(tuple(product(h, r)) for h, r in zip(self.heads, self.ffn_ratios, strict=True))

    @cached_property
    def size(self) -> int:
        """Number of subnets, exactly."""
        per_embed = sum(math.prod(len(self.choices[layer]) for layer in kept) for kept in self.depth_map.values())
        return len(self.embed_dims) * per_embed

    @cached_property
    def largest(self) -> Subnet:
        """The subnet with the most of everything."""
        kept = self.depth_map[max(self.depths)]
        return Subnet(
            max(self.embed_dims), tuple(max(self.heads[i]) for i in kept), tuple(max(self.ffn_ratios[i]) for i in kept)
        )

    @cached_property
    def smallest(self) -> Subnet:
        """The subnet with the least of everything."""
        kept = self.depth_map[min(self.depths)]
        return Subnet(
            min(self.embed_dims), tuple(min(self.heads[i]) for i in kept), tuple(min(self.ffn_ratios[i]) for i in kept)
        )

    @cached_property
    def middle(self) -> Subnet:
        """The subnet with the middle (upper median) of every choice: the shape of LightHuBERT's default subnet."""
        kept = self.depth_map[_middle(self.depths)]
        return Subnet(
            _middle(self.embed_dims),
            tuple(_middle(self.heads[i]) for i in kept),
            tuple(_middle(self.ffn_ratios[i]) for i in kept),
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
            for kept in self.depth_map.values():
                for layers in product(*(self.choices[layer] for layer in kept)):
                    yield Subnet(embed_dim, tuple(h for h, _ in layers), tuple(r for _, r in layers))

    # ---------------------------------------------------------------- drawing

    def sample(self, rng: np.random.Generator) -> Subnet:
        """One subnet, with each choice drawn uniformly (embed dim, depth, each kept layer), as LightHuBERT trains.

        This is not uniform over subnets, since there are more of the deeper ones; `AdditiveTable.sample` is.
        """
        kept = self.depth_map[_pick(rng, self.depths)]
        layers = [_pick(rng, self.choices[layer]) for layer in kept]
        return Subnet(_pick(rng, self.embed_dims), tuple(h for h, _ in layers), tuple(r for _, r in layers))

    def mutate(self, subnet: Subnet, rng: np.random.Generator, rate: float = 0.1) -> Subnet:
        """`subnet` with each of its choices redrawn with probability `rate`; layers that it did not keep are drawn."""
        depth = _pick(rng, self.depths) if rng.random() < rate else subnet.depth
        embed_dim = _pick(rng, self.embed_dims) if rng.random() < rate else subnet.embed_dim
        own = self.layers_of(subnet)
        layers = []
        for layer in self.depth_map[depth]:
            heads, ratio = own.get(layer) or _pick(rng, self.choices[layer])
            heads = _pick(rng, self.heads[layer]) if rng.random() < rate else heads
            ratio = _pick(rng, self.ffn_ratios[layer]) if rng.random() < rate else ratio
            layers.append((heads, ratio))
        return Subnet(embed_dim, tuple(h for h, _ in layers), tuple(r for _, r in layers))

    def crossover(self, a: Subnet, b: Subnet, rng: np.random.Generator) -> Subnet:
        """A child that takes each choice from one of its parents; layers are matched by their index in the supernet."""
        layers_a, layers_b = self.layers_of(a), self.layers_of(b)
        kept = self.depth_map[_pick(rng, (a.depth, b.depth))]
        parents = [[own[layer] for own in (layers_a, layers_b) if layer in own] for layer in kept]
        heads = tuple(_pick(rng, options)[0] for options in parents)
        ratios = tuple(_pick(rng, options)[1] for options in parents)
        return Subnet(_pick(rng, (a.embed_dim, b.embed_dim)), heads, ratios)

    def layers_of(self, subnet: Subnet) -> dict[int, tuple[int, float]]:
        """(heads, FFN ratio) of each layer of the supernet that `subnet` keeps."""
        kept = self.kept_layers(subnet.depth)
        return dict(zip(kept, zip(subnet.heads, subnet.ffn_ratios, strict=True), strict=True))

    # ---------------------------------------------------------------- integer vectors

    def encode(self, subnet: Subnet) -> npt.NDArray[np.int64]:
        """Indices of embed dim, depth, then (heads, FFN ratio) of every supernet layer; -1 for layers not kept."""
        self.check(subnet)
        vector = np.full(2 + 2 * self.network.num_layers, -1, dtype=np.int64)
        vector[:2] = self.embed_dims.index(subnet.embed_dim), self.depths.index(subnet.depth)
        for layer, (heads, ratio) in self.layers_of(subnet).items():
            vector[2 + 2 * layer] = self.heads[layer].index(heads)
            vector[3 + 2 * layer] = self.ffn_ratios[layer].index(ratio)
        return vector

    def decode(self, vector: Sequence[int] | npt.NDArray[np.int64]) -> Subnet:
        """The subnet of an `encode`d vector; entries of layers that it does not keep are ignored."""
        values = [int(value) for value in vector]
        expected = 2 + 2 * self.network.num_layers
        if len(values) != expected:
            raise SpaceError(f"a vector of space '{self.name}' has {expected} entries; got {len(values)}")
        embed_dim = _at(self.name, "embed dim", self.embed_dims, values[0])
        kept = self.depth_map[_at(self.name, "depth", self.depths, values[1])]
        heads = tuple(_at(self.name, "heads", self.heads[i], values[2 + 2 * i]) for i in kept)
        ratios = tuple(_at(self.name, "ffn_ratios", self.ffn_ratios[i], values[3 + 2 * i]) for i in kept)
        return Subnet(embed_dim, heads, ratios)

    def chosen(self, vectors: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(N, layers): the index into `choices[l]` for each row of encoded vectors (N, entries); -1 if not kept."""
        ratios = np.array([len(choices) for choices in self.ffn_ratios])
        return np.where(vectors[:, 2::2] < 0, -1, vectors[:, 2::2] * ratios + vectors[:, 3::2])

    # ---------------------------------------------------------------- as data

    def to_dict(self) -> JsonObject:
        """Plain containers, as in a TOML space file (layers count from 1)."""
        return {
            "name": self.name,
            "embed_dims": list(self.embed_dims),
            "heads": _folded(self.heads),
            "ffn_ratios": _folded(self.ffn_ratios),
            "depth_map": {str(depth): [layer + 1 for layer in kept] for depth, kept in self.depth_map.items()},
            "network": self.network.to_dict(),
        }


def _choices(space: str, name: str, values: Sequence[float]) -> None:
    if not values or list(values) != sorted(set(values)) or values[0] <= 0:
        raise SpaceError(
            f"{name} of space '{space}' must be different positive numbers in rising order; got {list(values)}"
        )


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
