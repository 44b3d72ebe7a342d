"""Which slice of each stored weight a subnet keeps: the only definition, for forward pass, counting and extraction.

LightHuBERT's rules (its `scaling_*` modules, checked against s3prl's copy in `tests/supernet`):
every linear layer keeps its first outputs and inputs; q, k, v keep `head_dim * heads` outputs; LayerNorms keep the
first D; weight norm is applied to the whole positional convolution, which then keeps its first D outputs and the
first D / groups inputs of each group. FFN units are stored in blocks of `width`: a subnet takes the first D of each
block, and of its last block the remainder of int(ratio * D).

Ours beside them: a layer without heads or FFN units keeps the output's bias of that half; a narrower front end keeps
the first channels of each convolution; a table of positions and a stack of convolutions keep their first D. A rotated
network keeps all dims before and after the layers, and the first FFN units whatever D is. Where the
inputs x of `out` and `fc2` are compensated (`importance.compensate`), V basis (x - mean) + b' is stored: `basis` is
triangular, and takes from each input what those before it predict. A slice keeps the first columns of V, and the first
rows and columns of the basis; it folds them into the weight and bias of a plain network. Narrower ones, whose inputs
are others, slice V basis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from search_spaces import Network, Space, Subnet
from supernet.layers import front_channels

__all__ = [
    "ffn_segments",
    "folded",
    "narrow_layer",
    "slice_front_end",
    "slice_layer",
    "slice_start",
    "slice_weights",
    "weight_normed",
]


_MEANS = ("out.mean", "fc2.mean")
_COMPENSATION = (*_MEANS, "out.basis", "fc2.basis")


def ffn_segments(network: Network, embed_dim: int, ffn_dim: int) -> list[slice]:
    """Ranges of the stored FFN units that a layer of embed dim D and FFN dim F keeps, in order."""
    if not ffn_dim:
        return []
    if network.rotated:
        return [slice(0, ffn_dim)]
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
    sliced = slice_start(stored, network, D, front_channels(network, subnet)[-1])
    kept = space.kept_layers(subnet.depth)
    for i, (layer, heads, ffn_dim) in enumerate(zip(kept, subnet.heads, subnet.ffn_dims, strict=True)):
        own = slice_layer(stored, network, layer, D, heads, ffn_dim)
        sliced |= {f"layers.{i}.{name}": value for name, value in own.items()}
    return sliced


def slice_front_end(stored: Mapping[str, Tensor], channels: Sequence[int]) -> dict[str, Tensor]:
    """The weights of a front end with fewer `channels` in each convolution, under the names of `layers.FrontEnd`."""
    sliced = {}
    for name, value in stored.items():
        number = name.split(".")[1]
        i = int(number) if number.isdigit() else 0
        first = value[: channels[i]]
        sliced[name] = first[:, : channels[i - 1]] if i and value.dim() == 3 else first
    return sliced


def slice_start(stored: Mapping[str, Tensor], network: Network, embed_dim: int, channels: int) -> dict[str, Tensor]:
    """The weights before and after the layers: of the features' projection, the positions and the norm."""
    D, groups = network.outer(embed_dim), network.pos_conv_groups
    sliced = {}
    for name, value in stored.items():
        part = name.split(".")[0]
        if part == "input_norm":
            sliced[name] = value[:channels]
        elif part == "projection":
            sliced[name] = value[:D, :channels] if value.dim() == 2 else value[:D]
        elif part == "norm":
            sliced[name] = value[:D]
        elif part == "entry":
            sliced[name] = value[:embed_dim]
        elif part == "exit":
            sliced[name] = value[:, :embed_dim] if value.dim() == 2 else value
        elif part == "positions":
            sliced[name] = value[:, :D]
        elif part == "pos_convs":
            sliced[name] = value[:D, : D // groups] if value.dim() == 3 else value[:D]
    if "pos_conv.bias" in stored:
        weight = weight_normed(stored["pos_conv.weight_g"], stored["pos_conv.weight_v"])
        sliced["pos_conv.weight"] = weight[:D, : D // groups]
        sliced["pos_conv.bias"] = stored["pos_conv.bias"][:D]
    return sliced


def slice_layer(
    stored: Mapping[str, Tensor],
    network: Network,
    layer: int,
    embed_dim: int,
    heads: int,
    ffn_dim: int,
    fold: bool = True,
) -> dict[str, Tensor]:
    """One layer (0-based) under the names of `layers.EncoderLayer`.

    Slices are views; only FFN weights of several segments are concatenated, which copies them. Without `fold`, means
    and bases are kept apart as `out.mean`, `out.basis` and those of `fc2`: see `folded`.
    """
    D, inner, units = embed_dim, heads * network.head_dim, ffn_segments(network, embed_dim, ffn_dim)
    prefix = f"layers.{layer}."
    sliced: dict[str, Tensor] = {}
    names = _halves(network, heads, ffn_dim)
    narrow = network.width > D and not network.rotated  # then FFN units are others, and not those that were compensated
    if names:
        names += tuple(name for name in (_MEANS if narrow else _COMPENSATION) if prefix + name in stored)
    for name in names:
        value = stored[prefix + name]
        part = name.split(".")[0]
        if narrow and name in ("out.weight", "fc2.weight"):
            value = _on_inputs(value, stored.get(f"{prefix}{part}.basis"))
        if part in ("q", "k", "v"):
            sliced[name] = value[:inner, :D] if value.dim() == 2 else value[:inner]
        elif part == "relative":
            sliced[name] = _of_heads(name, value, heads)
        elif name == "out.weight":
            sliced[name] = value[:D, :inner]
        elif part == "fc1":
            sliced[name] = _joined([value[kept, :D] if value.dim() == 2 else value[kept] for kept in units], 0)
        elif name == "fc2.weight":
            sliced[name] = _joined([value[:D, kept] for kept in units], 1)
        elif name.endswith("basis"):
            first = inner if part == "out" else ffn_dim
            sliced[name] = value[:first, :first]
        elif name == "out.mean":
            sliced[name] = value[:inner]
        elif name == "fc2.mean":
            sliced[name] = _joined([value[kept] for kept in units] or [value[:0]], 0)
        else:  # norms, and the biases of outputs
            sliced[name] = value[:D]
    if fold:
        for part, kept in (("out", inner), ("fc2", ffn_dim)):
            sliced |= folded(sliced, part, kept)
        sliced = {name: value for name, value in sliced.items() if name not in _COMPENSATION}
    return sliced


def folded(sliced: Mapping[str, Tensor], part: str, kept: int) -> dict[str, Tensor]:
    """The weight and bias of `out` or `fc2` (`part`) with the first inputs of a slice; none if it is not compensated.

    In float32 under autocast too: differences of large numbers.
    """
    mean, basis = sliced.get(f"{part}.mean"), sliced.get(f"{part}.basis")
    if mean is None:
        return {}
    bias = sliced[f"{part}.bias"]
    if not kept:
        return {f"{part}.bias": bias}
    weight = _on_inputs(sliced[f"{part}.weight"][:, :kept], None if basis is None else basis[:kept, :kept])
    with torch.autocast(bias.device.type, enabled=False):
        return {f"{part}.weight": weight, f"{part}.bias": bias - weight @ mean[:kept]}


def _on_inputs(weight: Tensor, basis: Tensor | None) -> Tensor:
    with torch.autocast(weight.device.type, enabled=False):
        return weight if basis is None else weight @ basis


def _halves(network: Network, heads: int, ffn_dim: int) -> tuple[str, ...]:
    """Names of the weights of a layer; of a half that it lacks, those that stay (see `layers.EncoderLayer`)."""
    if not heads and not ffn_dim:
        return ()
    inputs = [part for part, size in (("q", heads), ("k", heads), ("v", heads), ("fc1", ffn_dim)) if size]
    norms = [part for part, size in (("attention_norm", heads), ("final_norm", ffn_dim))
             if (size or not network.norm_first) and not network.rotated]  # fmt: skip
    names = [f"{part}.{kind}" for part in (*inputs, *norms) for kind in ("weight", "bias")]
    names += ["out.bias", "fc2.bias", *(["out.weight"] if heads else []), *(["fc2.weight"] if ffn_dim else [])]
    if heads and not network.key_bias:
        names.remove("k.bias")
    if heads and network.relative_buckets:
        names += [f"relative.{name}" for name in ("weight", "gate.weight", "gate.bias", "const", "blocks")]
    return tuple(names)


def _of_heads(name: str, value: Tensor, heads: int) -> Tensor:
    """A weight of relative positions for the first heads; all of them share the gate."""
    if ".gate." in name:
        return value
    return value[:, :heads] if name == "relative.weight" else value[:heads]


def narrow_layer(sliced: Mapping[str, Tensor], network: Network, heads: int, ffn_dim: int) -> dict[str, Tensor]:
    """A layer of the same embed dim with fewer heads and FFN units: the first of `sliced`, as views.

    FFN units are in the order of their blocks, so that a smaller FFN has the first units of a larger one.
    """
    inner = heads * network.head_dim
    outputs = {"q": inner, "k": inner, "v": inner, "fc1": ffn_dim}
    narrowed = {}
    for name in _halves(network, heads, ffn_dim):
        value, part = sliced[name], name.split(".")[0]
        if part == "relative":
            narrowed[name] = _of_heads(name, value, heads)
        elif name in ("out.weight", "fc2.weight"):
            narrowed[name] = value[:, : inner if part == "out" else ffn_dim]
        else:
            narrowed[name] = value[: outputs.get(part)]
    return narrowed


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
