"""What heads, FFN units and channels matter to a network's output, measured on speech; and what they give on average.

    activation = mean + mask (activation - mean),    importance = E |d output / d mask|^2

The mask is of one unit, head or channel; the output is the last hidden state, each dim standardised. The importance is
the diagonal of the Gauss-Newton matrix of the output's squared distance: to second order, what is lost without the unit
if its mean stays. It is estimated from gradients of random projections of the output (Hutchinson 1990), one backward
pass each for all layers. `compensate` makes the means stay: the bias of the layer that reads a unit takes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supernet.layers import EncoderLayer, Hubert
from supernet.model import HubertSupernet

__all__ = ["Importance", "compensate", "measure_importance"]

PASSES = 96  # backward passes: that many recordings, or fewer several times


@dataclass(frozen=True)
class Importance:
    """For each layer: `heads` (H,), `units` (F,), `means` of the inputs of `out` (H * head dim,) and of `fc2` (F,).

    For each convolution: `channels` (C,), if they were measured.
    """

    heads: list[Tensor]
    units: list[Tensor]
    means: list[tuple[Tensor, Tensor]]
    channels: list[Tensor]


@torch.enable_grad()
def measure_importance(model: HubertSupernet, waves: Sequence[Tensor], channels: bool = False) -> Importance:
    """The importance of what can be dropped from the largest subnet, on waveforms (S,) as the model takes them.

    Takes a forward pass of each recording and, about `PASSES` times, one forward and backward.
    """
    net = model.extract(model.space.largest).eval().requires_grad_(False)
    means, std = _statistics(net, waves)
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
    return Importance(sums[::2], sums[1::2], means, of_channels)


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


@torch.no_grad()
def _statistics(net: Hubert, waves: Sequence[Tensor]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Means over all frames of the inputs of `out` and `fc2`, and the last hidden state's standard deviations (D,)."""
    frames, totals = 0, [torch.zeros(())] * (2 * len(net.encoder.layers) + 2)
    for wave in waves:
        _, inner, last = _run(net, wave, False)
        values = [x.double() for x in (*inner, last, last.double().square())]
        totals = [total + value.sum((0, 1)) for total, value in zip(totals, values, strict=True)]
        frames += last.shape[1]
    *means, mean, square = (total / frames for total in totals)
    std = (square - mean.square()).clamp(min=1e-12).sqrt()
    means = [each.float() for each in means]
    return list(zip(means[::2], means[1::2], strict=True)), std.float()


@torch.no_grad()
def compensate(model: HubertSupernet, means: Sequence[tuple[Tensor, Tensor]]) -> HubertSupernet:
    """Stores the means of the inputs of `out` and `fc2`, in place, so that dropped heads and units leave theirs.

    The largest subnet stays as it is. Returns `model`.
    """
    model.add_means()
    for layer, pair in zip(model.encoder.layers, means, strict=True):
        for part, mean in zip((layer.out, layer.fc2), pair, strict=True):
            assert isinstance(part, nn.Linear)
            part.get_buffer("mean").copy_(mean)
            part.bias.add_(part.weight @ mean)
    return model
