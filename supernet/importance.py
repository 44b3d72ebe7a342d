"""What heads, FFN units and channels matter to a network's output, measured on speech; and what stays without them.

    activation = mean + mask (activation - mean),    importance = E |d output / d mask|^2

The mask is of one unit, head or channel; the output is the last hidden state, each dim standardised. The importance is
the diagonal of the Gauss-Newton matrix of the output's squared distance: to second order, what is lost without the unit
if its mean stays. It is estimated from gradients of random projections of the output (Hutchinson 1990), one backward
pass each for all layers.

`compensate` makes more than the mean stay: what the kept units predict of the dropped ones by linear regression. With
the covariance C = L D L' of units in their order, L unit lower triangular, the innovations z = inv(L) (x - mean) are
uncorrelated, and z_1 ... z_k depend on x_1 ... x_k alone. W (x - mean) = (W L) z. So V = W L and the basis inv(L) are
stored, and the first k columns of V on the first k innovations are the least squares prediction of W (x - mean), for
every k at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supernet.layers import EncoderLayer, Hubert
from supernet.model import HubertSupernet
from supernet.slicing import folded

__all__ = ["Importance", "compensate", "measure_importance", "plain"]

RIDGE = 1e-4  # of the mean variance
PASSES = 96  # backward passes: that many recordings, or fewer several times


@dataclass(frozen=True)
class Importance:
    """For each layer: `heads` (H,) and `units` (F,).

    `means` and `covariances` of the inputs of `out` (H * head dim,) and `fc2` (F,), over all frames. For each
    convolution: `channels` (C,), if they were measured.
    """

    heads: list[Tensor]
    units: list[Tensor]
    means: list[tuple[Tensor, Tensor]]
    covariances: list[tuple[Tensor, Tensor]]
    channels: list[Tensor]


@torch.enable_grad()
def measure_importance(model: HubertSupernet, waves: Sequence[Tensor], channels: bool = False) -> Importance:
    """The importance of what can be dropped from the largest subnet, on waveforms (S,) as the model takes them.

    Takes a forward pass of each recording and, about `PASSES` times, one forward and backward.
    """
    net = model.extract(model.space.largest).eval().requires_grad_(False)
    means, covariances, std = _statistics(net, waves)
    sums: list[Tensor] = [torch.zeros(())] * (2 * len(means))
    of_channels: list[Tensor] = [torch.zeros(())] * (len(net.front_end.convs) if channels else 0)
    generator = torch.Generator().manual_seed(0)
    flat = [mean for pair in means for mean in pair]
    for wave in [*waves] * -(-PASSES // len(waves)):
        outputs, inner, last = _run(net, wave, channels)
        projection = torch.randn(last.shape, generator=generator) / std
        gradients = torch.autograd.grad((projection * last).sum(), [*outputs, *inner])
        for i, (x, gradient) in enumerate(zip(outputs, gradients, strict=False)):
            if channels:
                of_channels[i] = of_channels[i] + (x.detach() * gradient).sum((0, 2)).double().square()
        for i, (x, mean, gradient) in enumerate(zip(inner, flat, gradients[len(outputs) :], strict=True)):
            effect = ((x.detach() - mean) * gradient).sum((0, 1)).double()
            sums[i] = sums[i] + (effect if i % 2 else effect.view(-1, net.network.head_dim).sum(1)).square()
    return Importance(sums[::2], sums[1::2], means, covariances, of_channels)


def _run(net: Hubert, wave: Tensor, channels: bool) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """What the convolutions pass on, all or the last alone; the inputs of `out` and `fc2`; the last hidden state."""
    wav = wave[None].clone().requires_grad_(channels)
    outputs = list(net.front_end.outputs(wav))
    if not channels:
        outputs = [outputs[-1].detach().requires_grad_()]
    with _inputs(net) as inner:
        last = net.encoder(outputs[-1].transpose(1, 2))[-1]
    return outputs, inner, last


@contextmanager
def _inputs(net: Hubert) -> Iterator[list[Tensor]]:
    """The inputs of `out` and `fc2`, layer by layer, of a pass within the block."""
    seen: list[Tensor] = []
    layers = [layer for layer in net.encoder.layers if isinstance(layer, EncoderLayer)]
    parts: list[nn.Module] = [part for layer in layers for part in (layer.out, layer.fc2)]
    hooks = [part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) for part in parts]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


_Pairs = list[tuple[Tensor, Tensor]]


@torch.no_grad()
def _statistics(net: Hubert, waves: Sequence[Tensor]) -> tuple[_Pairs, _Pairs, Tensor]:
    """Means and covariances of the inputs of `out` and `fc2` over all frames; the output's standard deviations (D,)."""
    frames = 0
    first = [x.mean((0, 1)) for x in _run(net, waves[0], False)[1]]  # so that no large numbers are squared
    sums: list[Tensor] = [torch.zeros(())] * (len(first) + 2)
    squares: list[Tensor] = [torch.zeros(())] * len(first)
    for wave in waves:
        _, inner, last = _run(net, wave, False)
        shifted = [x[0] - mean for x, mean in zip(inner, first, strict=True)]
        squares = [square + (x.T @ x).double() for square, x in zip(squares, shifted, strict=True)]
        values = [x.double() for x in (*shifted, last[0], last[0].double().square())]
        sums = [total + value.sum(0) for total, value in zip(sums, values, strict=True)]
        frames += last.shape[1]
    *shifts, mean, square = (total / frames for total in sums)
    std = (square - mean.square()).clamp(min=1e-12).sqrt()
    covariances = [s / frames - torch.outer(m, m) for s, m in zip(squares, shifts, strict=True)]
    means = [(before + shift).float() for before, shift in zip(first, shifts, strict=True)]
    return _pairs(means), _pairs(covariances), std.float()


def _pairs(values: Sequence[Tensor]) -> _Pairs:
    return list(zip(values[::2], values[1::2], strict=True))


@torch.no_grad()
def compensate(model: HubertSupernet, means: _Pairs, covariances: _Pairs | None = None) -> HubertSupernet:
    """Makes the means of the inputs of `out` and `fc2` stay where heads and units are dropped, in place.

    With `covariances`, what kept inputs predict of dropped ones stays too: stored units must be in their order of
    importance. The largest subnet stays as it is. Returns `model`.
    """
    plain(model)
    model.add_compensation("regression" if covariances else "mean")
    for i, layer in enumerate(model.encoder.layers):
        for j, part in enumerate((layer.out, layer.fc2)):
            assert isinstance(part, nn.Linear)
            part.get_buffer("mean").copy_(means[i][j])
            part.bias.add_(part.weight @ means[i][j])
            if covariances:
                basis, inverse = _bases(covariances[i][j])
                part.get_buffer("basis").copy_(basis)
                part.weight.copy_(part.weight.double() @ inverse)
    return model


def _bases(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """The unit lower triangular basis (F, F) that makes inputs uncorrelated, and its inverse; in float64.

    The ridge keeps inputs that others determine, or that are never active, from having wild coefficients.
    """
    own, identity = covariance.double(), torch.eye(len(covariance)).to(covariance.device, torch.float64)
    ridge, failed = RIDGE * float(own.diagonal().mean().clamp(min=1e-12)), 1
    while failed:  # rounding can leave a variance below 0 that is larger than the ridge
        factor, failed = torch.linalg.cholesky_ex(own + ridge * identity)
        ridge *= 10
    inverse = factor / factor.diagonal()
    basis = torch.linalg.solve_triangular(inverse, identity, upper=False, unitriangular=True)
    return basis, inverse


@torch.no_grad()
def plain(model: HubertSupernet) -> HubertSupernet:
    """Folds what is stored for dropped heads and units into the whole network, in place; returns `model`."""
    for layer in model.encoder.layers if model.compensation != "none" else ():
        for part, name in ((layer.out, "out"), (layer.fc2, "fc2")):
            assert isinstance(part, nn.Linear)
            own = folded({f"{name}.{kind}": value for kind, value in _stored(part)}, name, part.in_features)
            part.weight.copy_(own[f"{name}.weight"])
            part.bias.copy_(own[f"{name}.bias"])
    model.add_compensation("none")
    return model


def _stored(part: nn.Linear) -> list[tuple[str, Tensor]]:
    return [*part.named_parameters(), *part.named_buffers()]
