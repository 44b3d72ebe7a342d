"""Low rank by PCA of activations, as LiteASR does it (arXiv 2502.20583): what slices are compared with.

Each linear layer y = W x + b of the Transformer layers becomes y = U (U' W) x + (b + (I - U U') W mean x), where U are
the first principal components of y on some speech; a layer where that takes more multiplications stays as it is. All
layers keep the same share of their variance, the largest with which the whole costs no more MACs than allowed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from supernet.layers import EncoderLayer, Hubert

__all__ = ["low_rank", "macs_a_frame"]

_PARTS = ("q", "k", "v", "out", "fc1", "fc2")


def _linears(net: Hubert) -> list[tuple[EncoderLayer, str, nn.Linear]]:
    layers = [layer for layer in net.encoder.layers if isinstance(layer, EncoderLayer)]
    parts = [(layer, name, getattr(layer, name)) for layer in layers for name in _PARTS]
    return [(layer, name, part) for layer, name, part in parts if isinstance(part, nn.Linear)]


def macs_a_frame(net: Hubert) -> int:
    """MACs of the linear layers of all Transformer layers for each frame."""
    return sum(w.numel() for layer in net.encoder.layers for n, w in layer.named_parameters() if _is_matrix(n, w))


def _is_matrix(name: str, weight: Tensor) -> bool:
    return weight.dim() == 2 and name.split(".")[0] in _PARTS


@torch.no_grad()
def low_rank(net: Hubert, waves: Sequence[Tensor], macs: float) -> Hubert:
    """`net` with its linear layers factored, in place, so that they take at most `macs` a frame; returns it."""
    linears = _linears(net)
    sums = [torch.zeros(part.out_features, dtype=torch.float64) for _, _, part in linears]
    squares = [torch.zeros(part.out_features, part.out_features, dtype=torch.float64) for _, _, part in linears]
    frames = 0

    def keep(i: int, y: Tensor) -> None:
        own = y.flatten(0, -2).double()
        sums[i] += own.sum(0)
        squares[i] += own.T @ own

    hooks = [
        part.register_forward_hook(lambda _, inputs, output, i=i: keep(i, output))  # type: ignore[misc]
        for i, (_, _, part) in enumerate(linears)
    ]
    for wave in waves:
        frames += net(wave[None]).last_hidden_state.shape[1]
    for hook in hooks:
        hook.remove()
    means = [total / frames for total in sums]
    spectra = []
    for square, mean in zip(squares, means, strict=True):
        values, vectors = torch.linalg.eigh(square / frames - torch.outer(mean, mean))
        spectra.append((values.flip(0).clamp(min=0), vectors.flip(1)))
    ranks = _ranks([values for values, _ in spectra], [part for _, _, part in linears], macs)
    for (layer, name, part), rank, mean, (_, vectors) in zip(linears, ranks, means, spectra, strict=True):
        if rank is not None:
            setattr(layer, name, _factored(part, vectors[:, :rank], mean))
    return net


def _ranks(spectra: Sequence[Tensor], parts: Sequence[nn.Linear], macs: float) -> list[int | None]:
    """The rank of each layer, None for those that stay, by bisection of the share of variance that all keep."""
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2
        low, high = (share, high) if _cost(parts, _of_share(spectra, parts, share)) <= macs else (low, share)
    return _of_share(spectra, parts, low)


def _of_share(spectra: Sequence[Tensor], parts: Sequence[nn.Linear], share: float) -> list[int | None]:
    ranks: list[int | None] = []
    for values, part in zip(spectra, parts, strict=True):
        kept = (values.cumsum(0) / values.sum()).tolist()
        rank = 1 + sum(value < share for value in kept)
        worth = rank * (part.in_features + part.out_features) < part.in_features * part.out_features
        ranks.append(rank if worth else None)
    return ranks


def _cost(parts: Sequence[nn.Linear], ranks: Sequence[int | None]) -> int:
    return sum(
        part.weight.numel() if rank is None else rank * (part.in_features + part.out_features)
        for part, rank in zip(parts, ranks, strict=True)
    )


def _factored(part: nn.Linear, basis: Tensor, mean: Tensor) -> nn.Sequential:
    weight = part.weight.double()
    first, second = (
        nn.Linear(part.in_features, basis.shape[1], bias=False),
        nn.Linear(basis.shape[1], part.out_features),
    )
    bias = torch.zeros(part.out_features) if part.bias is None else part.bias
    centre = mean - bias.double()  # of W x
    first.weight.copy_(basis.T @ weight)
    second.weight.copy_(basis)
    second.bias.copy_(bias.double() + centre - basis @ (basis.T @ centre))
    return nn.Sequential(first, second)
