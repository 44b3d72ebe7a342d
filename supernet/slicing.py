"""Which slice of each stored weight a subnet keeps: the one truth for forward, counting and extraction.

LightHuBERT's rules (its `scaling_*` modules, checked against s3prl's copy in `tests/supernet`):
every linear layer keeps its first outputs and inputs; q, k, v keep `head_dim * heads` outputs; LayerNorms keep the
first D; the positional convolution is weight-normed as a whole and then keeps its first D outputs and D / groups
inputs of each group. FFN units are stored in blocks of `width`: a subnet takes the first D of each block, and of
its last block only what is left of int(ratio * D).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces import Network, Space, Subnet

__all__ = ["ffn_segments", "slice_weights", "weight_normed"]


def ffn_segments(network: Network, embed_dim: int, ffn_dim: int) -> list[slice]:
    """Ranges of the stored FFN units that a layer of this embed dim D and FFN dim F keeps, in order."""
    blocks = [
        slice(start, start + min(embed_dim, ffn_dim - i * embed_dim))
        for i, start in enumerate(range(0, -(-ffn_dim // embed_dim) * network.width, network.width))
    ]
    merged = [blocks[0]]
    for block in blocks[1:]:  # whole blocks (D = width) join into one plain prefix: a view, not a copy
        if block.start == merged[-1].stop:
            merged[-1] = slice(merged[-1].start, block.stop)
        else:
            merged.append(block)
    return merged


def weight_normed(weight_g: Tensor, weight_v: Tensor) -> Tensor:
    """The positional convolution's plain weight (D, D / groups, kernel): g * v / |v|, one norm for each tap."""
    return torch._weight_norm(weight_v, weight_g, 2)


def slice_weights(stored: Mapping[str, Tensor], space: Space, subnet: Subnet) -> dict[str, Tensor]:
    """The weights of `subnet`'s encoder under the names of `layers.Encoder`, as slices of the stored ones.

    Views wherever the slice is one block of memory; FFN weights of several segments are joined (a copy that is
    made anew at every call and never kept).
    """
    network, D = space.network, subnet.embed_dim
    sliced = {
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
    kept = space.kept_layers(subnet.depth)
    for i, (layer, heads, ffn_dim) in enumerate(zip(kept, subnet.heads, subnet.ffn_dims, strict=True)):
        source, target = f"layers.{layer}.", f"layers.{i}."
        inner = heads * network.head_dim
        for name in ("q", "k", "v"):
            sliced[f"{target}{name}.weight"] = stored[f"{source}{name}.weight"][:inner, :D]
            sliced[f"{target}{name}.bias"] = stored[f"{source}{name}.bias"][:inner]
        sliced[f"{target}out.weight"] = stored[f"{source}out.weight"][:D, :inner]
        sliced[f"{target}out.bias"] = stored[f"{source}out.bias"][:D]
        units = ffn_segments(network, D, ffn_dim)
        sliced[f"{target}fc1.weight"] = _joined([stored[f"{source}fc1.weight"][part, :D] for part in units], 0)
        sliced[f"{target}fc1.bias"] = _joined([stored[f"{source}fc1.bias"][part] for part in units], 0)
        sliced[f"{target}fc2.weight"] = _joined([stored[f"{source}fc2.weight"][:D, part] for part in units], 1)
        sliced[f"{target}fc2.bias"] = stored[f"{source}fc2.bias"][:D]
        for name in ("attention_norm", "final_norm"):
            for part in ("weight", "bias"):
                sliced[f"{target}{name}.{part}"] = stored[f"{source}{name}.{part}"][:D]
    return sliced


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
