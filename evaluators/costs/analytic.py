"""Parameters and multiply-adds, exact and additive over layers."""

from __future__ import annotations

import math
import numbers
import os
from dataclasses import dataclass

from evaluators.costs.context import CostContext, refuse_argument
from search_spaces import AdditiveTable, HasSpace, NasError, Network, Space, Subnet, as_space
from search_spaces.network import MEL_WINDOW

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


Source = Space | HasSpace | str | os.PathLike[str]
"""What exact costs are known for: a space, its name or TOML file, or a supernet."""


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


def params(space_or_supernet: Source, convention: str = "lighthubert") -> AnalyticCost:
    """Parameters of a subnet.

    "lighthubert": as `calc_sampled_param_num` counts: front end, projection, the whole mask embedding (`width`; Whisper
    has none), positional convolution as one plain weight, layers and norms; no prediction heads.
    "exported": parameters of the exported model: the same without the mask embedding. Relative positions are counted
    for each layer, which has its own copy.
    """
    space = as_space(space_or_supernet)
    network = space.network
    if convention not in CONVENTIONS:
        raise NasError(f"convention must be one of {', '.join(CONVENTIONS)}; got {convention!r}")
    trained_only = 0 if network.mel or convention != "lighthubert" else network.width  # the mask embedding

    def front_end(D: int, profile: tuple[int, ...]) -> int:
        total, channels = 0, _channels(network, D, profile)
        for i, (_, kernel, _) in enumerate(network.conv_layers):
            total += channels[i] * channels[i + 1] * kernel + network.conv_bias * channels[i + 1]
        normed = {"group": channels[1:2], "layer": channels[1:], "none": ()}[network.conv_norm]
        C = channels[-1]
        D = network.outer(D)
        projection = 0 if network.mel else 2 * C * network.input_norm + C * D + D
        return total + 2 * sum(normed) + projection

    def constant(D: int, depth: int) -> int:
        outer = network.outer(D)
        convolution = outer * (outer // network.pos_conv_groups) * network.pos_conv_kernel + outer
        table = network.max_frames * outer
        positions = table if network.positions == "table" else network.pos_conv_depth * convolution
        ends = 2 * outer * D + outer if network.rotated else 2 * D
        return trained_only + positions + ends

    relative = 8 * network.head_dim + 8 if network.relative_buckets else 0
    a_head = network.relative_buckets + 1 if network.relative_buckets else 0

    def layer(D: int, heads: int, ratio: float, index: int, depth: int) -> int:
        inner, F = heads * network.head_dim, int(ratio * D)
        norm = 0 if network.rotated else 2 * D
        attention = 4 * D * inner + (2 + network.key_bias) * inner + D + norm + relative + a_head * heads
        ffn = 2 * D * F + F + D + norm
        kept = D if network.norm_first else 3 * D  # of a half that is taken away alone
        return (attention if heads else kept) + (ffn if F else kept) if heads or F else 0

    return AnalyticCost(AdditiveTable.build(space, "params", "params", constant, layer, front_end), convention)


def memory_bytes(space_or_supernet: Source) -> AnalyticCost:
    """Bytes of the exported weights in float32: four for each parameter of the convention "exported".

    Not counted: activations, and whatever a runtime allocates beside the weights.
    """
    table = params(as_space(space_or_supernet), "exported").table
    scaled = AdditiveTable(
        table.space,
        "memory_bytes",
        "bytes",
        BYTES_OF_FLOAT32 * table.constant,
        tuple(BYTES_OF_FLOAT32 * layer for layer in table.layers),
    )
    return AnalyticCost(scaled, "exported weights in float32")


def macs(space_or_supernet: Source, seconds: float = 1.0) -> AnalyticCost:
    """Multiply-adds of one forward pass over `seconds` of 16 kHz audio, batch 1, front end included.

    1 MAC is one multiply-add of a convolution, linear layer or attention product (q k^T and the mix of v).
    Not counted: biases, norms, softmax, activations, weight norm, the Fourier transform of a mel spectrogram. The
    positional convolution is counted as computed: T + 1 frames for an even kernel, of which the last is dropped.
    """
    space = as_space(space_or_supernet)
    network = space.network
    if not isinstance(seconds, numbers.Real) or isinstance(seconds, bool) or not 0 < seconds < math.inf:
        raise NasError(f"seconds must be a positive, finite number; got {seconds!r}")
    samples = round(seconds * 16_000)
    T = network.frames(samples)
    if T < 1:
        raise NasError(
            f"seconds={seconds:g} is too short for one frame: at least {network.receptive_field / 16_000:g} s is needed"
        )
    lengths = network.lengths(samples)
    if network.max_frames and network.max_frames < T:
        raise NasError(f"seconds={seconds:g} is over the {network.max_frames * network.hop / 16_000:g} s that fit")

    def front_end(D: int, profile: tuple[int, ...]) -> int:
        channels = _channels(network, D, profile)
        outputs = lengths[network.mel :]
        spectrum = lengths[0] * network.mels * (MEL_WINDOW // 2 + 1) if network.mel else 0
        convolutions = sum(
            outputs[i] * channels[i] * channels[i + 1] * kernel for i, (_, kernel, _) in enumerate(network.conv_layers)
        )
        return spectrum + convolutions + (0 if network.mel else T * channels[-1] * network.outer(D))

    def constant(D: int, depth: int) -> int:
        ends = 2 * T * D * network.width if network.rotated else 0
        if network.positions == "table":
            return ends
        D = network.outer(D)
        padded = T + 2 * (network.pos_conv_kernel // 2) - network.pos_conv_kernel + 1
        return ends + network.pos_conv_depth * padded * D * (D // network.pos_conv_groups) * network.pos_conv_kernel

    def layer(D: int, heads: int, ratio: float, index: int, depth: int) -> int:
        inner, F = heads * network.head_dim, int(ratio * D)
        gates = 8 * T * inner if network.relative_buckets else 0
        return 4 * T * D * inner + 2 * T * T * inner + gates + 2 * T * D * F

    table = AdditiveTable.build(space, "macs", "MACs", constant, layer, front_end)
    return AnalyticCost(table, f"multiply-adds of {seconds:g} s of audio")


def _channels(network: Network, D: int, profile: tuple[int, ...]) -> tuple[int, ...]:
    """Inputs of the first convolution, then outputs of each; those of a mel's last are the embed dim."""
    return (network.mels, *profile[:-1], network.outer(D)) if network.mel else (1, *profile)


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
