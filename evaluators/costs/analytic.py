"""Parameters and multiply-adds, exact and additive over layers."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Protocol

from evaluators.costs.context import CostContext, refuse_argument
from search_spaces import AdditiveTable, NasError, Network, Space, Subnet

__all__ = [
    "AnalyticCost",
    "CONVENTIONS",
    "macs",
    "make_macs",
    "make_memory_bytes",
    "make_params",
    "memory_bytes",
    "params",
]

CONVENTIONS = ("lighthubert", "exported")
BYTES_OF_FLOAT32 = 4


class HasSpace(Protocol):
    """A supernet, as far as exact costs need to know it."""

    space: Space


@dataclass(frozen=True)
class AnalyticCost:
    """A cost known exactly from the architecture: `of(subnet)`, and the same as a table over the whole space."""

    table: AdditiveTable
    convention: str

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def unit(self) -> str:
        return self.table.unit

    def of(self, subnet: Subnet) -> int:
        """Exact cost of one subnet."""
        return int(self.table.of(subnet))


def params(space_or_supernet: Space | HasSpace, convention: str = "lighthubert") -> AnalyticCost:
    """Parameters of a subnet.

    "lighthubert": as `calc_sampled_param_num` counts: front end, projection, the whole mask embedding (`width`),
    positional convolution as one plain weight, layers and norms; no prediction heads.
    "exported": parameters of the exported model: the same without the mask embedding.
    """
    space = _space("params", space_or_supernet)
    network = space.network
    if convention not in CONVENTIONS:
        raise NasError(f"convention must be one of {', '.join(CONVENTIONS)}; got {convention!r}")
    channels = [1, *[c for c, _, _ in network.conv_layers]]
    front_end = 2 * channels[1] + sum(channels[i] * c * k for i, (c, k, _) in enumerate(network.conv_layers))
    trained_only = network.width if convention == "lighthubert" else 0  # the mask embedding

    def constant(D: int, depth: int) -> int:
        projection = 2 * network.conv_channels + network.conv_channels * D + D
        positions = D * (D // network.pos_conv_groups) * network.pos_conv_kernel + D
        return front_end + trained_only + projection + positions + 2 * D

    def layer(D: int, heads: int, ratio: float, index: int, depth: int) -> int:
        inner, F = heads * network.head_dim, int(ratio * D)
        return 3 * (D * inner + inner) + inner * D + D + 2 * D * F + F + D + 4 * D

    return AnalyticCost(AdditiveTable.build(space, "params", "params", constant, layer), convention)


def memory_bytes(space_or_supernet: Space | HasSpace) -> AnalyticCost:
    """Bytes of the exported weights in float32: four for each parameter of the convention "exported".

    Not counted: activations, and whatever a runtime allocates beside the weights.
    """
    table = params(_space("memory_bytes", space_or_supernet), "exported").table
    scaled = AdditiveTable(
        table.space,
        "memory_bytes",
        "bytes",
        BYTES_OF_FLOAT32 * table.constant,
        tuple(BYTES_OF_FLOAT32 * layer for layer in table.layers),
    )
    return AnalyticCost(scaled, "exported weights in float32")


def macs(space_or_supernet: Space | HasSpace, seconds: float = 1.0) -> AnalyticCost:
    """Multiply-adds of one forward pass over `seconds` of 16 kHz audio, batch 1, front end included.

    1 MAC is one multiply-add of a convolution, linear layer or attention product (q k^T and the mix of v).
    Not counted: biases, norms, softmax, activations, weight norm. The positional convolution is counted as
    computed: T + 1 frames, of which the last is dropped.
    """
    space = _space("macs", space_or_supernet)
    network = space.network
    if not isinstance(seconds, numbers.Real) or isinstance(seconds, bool) or not 0 < seconds < math.inf:
        raise NasError(f"seconds must be a positive, finite number; got {seconds!r}")
    samples = round(seconds * 16_000)
    T = network.frames(samples)
    if T < 1:
        raise NasError(
            f"seconds={seconds:g} is too short for one frame: at least {network.receptive_field / 16_000:g} s is needed"
        )
    front_end = _front_end_macs(network, samples)

    def constant(D: int, depth: int) -> int:
        padded = T + 2 * (network.pos_conv_kernel // 2) - network.pos_conv_kernel + 1
        positions = padded * D * (D // network.pos_conv_groups) * network.pos_conv_kernel
        return front_end + T * network.conv_channels * D + positions

    def layer(D: int, heads: int, ratio: float, index: int, depth: int) -> int:
        inner, F = heads * network.head_dim, int(ratio * D)
        return 4 * T * D * inner + 2 * T * T * inner + 2 * T * D * F

    table = AdditiveTable.build(space, "macs", "MACs", constant, layer)
    return AnalyticCost(table, f"multiply-adds of {seconds:g} s of audio")


def _front_end_macs(network: Network, samples: int) -> int:
    total, inputs = 0, 1
    for channels, kernel, stride in network.conv_layers:
        samples = (samples - kernel) // stride + 1
        total += samples * channels * inputs * kernel
        inputs = channels
    return total


def _space(cost: str, space_or_supernet: Space | HasSpace) -> Space:
    space = space_or_supernet if isinstance(space_or_supernet, Space) else getattr(space_or_supernet, "space", None)
    if not isinstance(space, Space):
        raise NasError(f"{cost} takes a Space or a supernet; got {space_or_supernet!r:.80}")
    return space


# -------------------------------------------------------------------- for budgets and objectives


def make_params(context: CostContext, argument: str | None) -> AnalyticCost:
    """Parameters, as LightHuBERT counts them."""
    refuse_argument("params", argument)
    return params(context.space)


def make_memory_bytes(context: CostContext, argument: str | None) -> AnalyticCost:
    """Bytes of the exported weights."""
    refuse_argument("memory_bytes", argument)
    return memory_bytes(context.space)


def make_macs(context: CostContext, argument: str | None) -> AnalyticCost:
    """MACs of the context's seconds of audio."""
    refuse_argument("macs", argument)
    return macs(context.space, context.seconds)
