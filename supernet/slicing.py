"""Which slice of each stored weight a subnet keeps: the only definition, for forward pass, counting and extraction.

LightHuBERT's rules (its `scaling_*` modules, checked against s3prl's copy in `tests/supernet`):
every linear layer keeps its first outputs and inputs; q, k, v keep `head_dim * heads` outputs; LayerNorms keep the
first D; weight norm is applied to the whole positional convolution, which then keeps its first D outputs and the
first D / groups inputs of each group. FFN units are stored in blocks of `width`: a subnet takes the first D of each
block, and of its last block the remainder of int(ratio * D).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces import Network, Space, Subnet

__all__ = ["ffn_segments", "narrow_layer", "slice_layer", "slice_start", "slice_weights", "weight_normed"]

_LAYER = tuple(
    f"{part}.{name}"
    for part in ("q", "k", "v", "out", "attention_norm", "fc1", "fc2", "final_norm")
    for name in ("weight", "bias")
)


def ffn_segments(network: Network, embed_dim: int, ffn_dim: int) -> list[slice]:
    """Ranges of the stored FFN units that a layer of embed dim D and FFN dim F keeps, in order."""
    blocks = [
        slice(start, start + min(embed_dim, ffn_dim - i * embed_dim))
        for i, start in enumerate(range(0, -(-ffn_dim // embed_dim) * network.width, network.width))
    ]
    merged = [blocks[0]]
    for block in blocks[1:]:  # whole blocks (D = width) become one prefix: a view, not a copy
        if block.start == merged[-1].stop:
            merged[-1] = slice(merged[-1].start, block.stop)
        else:
            merged.append(block)
    return merged


def weight_normed(weight_g: Tensor, weight_v: Tensor) -> Tensor:
    """The positional convolution's plain weight (D, D / groups, kernel): g * v / |v|, one norm per tap."""
    return torch._weight_norm(weight_v, weight_g, 2)


def slice_weights(stored: Mapping[str, Tensor], space: Space, subnet: Subnet) -> dict[str, Tensor]:
    """The weights of `subnet`'s encoder under the names of `layers.Encoder`, as slices of the stored ones."""
    network, D = space.network, subnet.embed_dim
    sliced = slice_start(stored, network, D)
    kept = space.kept_layers(subnet.depth)
    for i, (layer, heads, ffn_dim) in enumerate(zip(kept, subnet.heads, subnet.ffn_dims, strict=True)):
        own = slice_layer(stored, network, layer, D, heads, ffn_dim)
        sliced |= {f"layers.{i}.{name}": value for name, value in own.items()}
    return sliced


def slice_start(stored: Mapping[str, Tensor], network: Network, embed_dim: int) -> dict[str, Tensor]:
    """The weights before the layers: input norm, projection, positional convolution, norm."""
    D = embed_dim
    return {
        "input_norm.weight": stored["input_norm.weight"],
        "input_norm.bias": stored["input_norm.bias"],
        "projection.weight": stored["projection.weight"][:D],
        "projection.bias": stored["projection.bias"][:D],
        "pos_conv.weight": weight_normed(stored["pos_conv.weight_g"], stored["pos_conv.weight_v"])[
            :D, : D // network.pos_conv_groups
        ],
        "pos_conv.bias": stored["pos_conv.bias"][:D],
        "norm.weight": stored["norm.weight"][:D],
        "norm.bias": stored["norm.bias"][:D],
    }


def slice_layer(
    stored: Mapping[str, Tensor], network: Network, layer: int, embed_dim: int, heads: int, ffn_dim: int
) -> dict[str, Tensor]:
    """One layer (0-based) under the names of `layers.EncoderLayer`.

    Slices are views; only FFN weights of several segments are concatenated, which copies them.
    """
    D, inner, units = embed_dim, heads * network.head_dim, ffn_segments(network, embed_dim, ffn_dim)
    own = {name: stored[f"layers.{layer}.{name}"] for name in _LAYER}
    sliced = {
        "out.weight": own["out.weight"][:D, :inner],
        "fc1.weight": _joined([own["fc1.weight"][part, :D] for part in units], 0),
        "fc1.bias": _joined([own["fc1.bias"][part] for part in units], 0),
        "fc2.weight": _joined([own["fc2.weight"][:D, part] for part in units], 1),
    }
    for name in ("q", "k", "v"):
        sliced[f"{name}.weight"] = own[f"{name}.weight"][:inner, :D]
        sliced[f"{name}.bias"] = own[f"{name}.bias"][:inner]
    return {name: sliced[name] if name in sliced else whole[:D] for name, whole in own.items()}


def narrow_layer(sliced: Mapping[str, Tensor], inner: int, ffn_dim: int) -> dict[str, Tensor]:
    """A layer of the same embed dim with fewer heads and FFN units: the first of `sliced`, as views.

    FFN units are in the order of their blocks, so that a smaller FFN has the first units of a larger one.
    """
    outputs = {"q": inner, "k": inner, "v": inner, "fc1": ffn_dim}
    narrowed = {name: value[: outputs.get(name.split(".")[0])] for name, value in sliced.items()}
    return narrowed | {"out.weight": sliced["out.weight"][:, :inner], "fc2.weight": sliced["fc2.weight"][:, :ffn_dim]}


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
