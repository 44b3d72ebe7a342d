"""The residual stream of a pretrained network in coordinates of decreasing importance, so that its width is elastic.

A layer norm takes the mean over dims away, and scales by the root mean square of what is left; its weights belong to
the linear layers that read it. Both halves of a layer write linearly. So with C = I - 11'/D and any orthogonal Q,

    entry = Q'C,  out, fc2 -> Q'C W,  q, k, v, fc1 -> W diag(g) Q,  exit = diag(g) Q

leave the output as it is, with norms that have no weights (`layers.StreamNorm`): SliceGPT's invariance (Ashkboos et al.
2024). A key's bias from the norm's is the same for all keys, and no softmax sees it. Slices keep the first coordinates.

Q diagonalises the second moments S of the normed stream x at all places where it is read, weighted by the gradients g
of random projections of the output there: M = sum of S^(1/2) E[g g'] S^(1/2), whose trace is what is lost with all x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import NasError, Space
from search_spaces.proposals import proposed_space
from supernet.importance import plain
from supernet.layers import EncoderLayer, Hubert
from supernet.model import HubertSupernet

__all__ = ["principal_directions", "rotated"]


def _check(model: HubertSupernet) -> None:
    """Raises `NasError` for a network whose stream cannot be rotated."""
    network = model.space.network
    if network.rotated:
        raise NasError("this supernet is rotated already")
    if not network.norm_first or network.relative_buckets:
        raise NasError(
            "only networks with norms first and without relative positions can be rotated, such as Whisper, HuBERT "
            "Large or XLS-R: leave --rotate out"
        )
    if model.head_layers:
        raise NasError("a supernet with prediction heads cannot be rotated: leave --rotate out")


def rotated(model: HubertSupernet, waves: Sequence[Tensor], space: Space | None = None) -> HubertSupernet:
    """The same network in the coordinates of `principal_directions`, as a supernet of `space`.

    That is one of the rotated network, by default the fine one.

    `waves` (S,): some speech as the model takes it. Raises `NasError` for a network that cannot be rotated.
    """
    _check(model)
    plain(model)
    network = replace(model.space.network, rotated=True)
    space = space or proposed_space(network, "fine")
    if space.network != network:
        raise NasError(f"space '{space.name}' must be of the rotated network")
    basis = principal_directions(model.extract(model.space.largest).eval(), waves)
    new = HubertSupernet(space, frame_rule=model.frame_rule, provenance=model.provenance, prepare=model.prepare)
    new.trained_for_space, new.source = False, model.source
    stored = {name: value.double() for name, value in model.state_dict().items() if "layers." not in name}
    stored |= {f"encoder.{name}": value for name, value in _ends(model, basis).items()}
    for i, layer in enumerate(model.encoder.layers):
        assert isinstance(layer, EncoderLayer)
        stored |= {f"encoder.layers.{i}.{name}": value for name, value in _layer(layer, basis).items()}
    own = new.state_dict()
    new.load_state_dict({name: stored[name].to(value) for name, value in own.items()})
    return new.eval()


def _ends(model: HubertSupernet, basis: Tensor) -> dict[str, Tensor]:
    norm = model.encoder.norm
    assert isinstance(norm, nn.LayerNorm)
    exit_ = norm.weight.double()[:, None] * basis
    return {"entry.weight": _centred(basis).T, "exit.weight": exit_, "exit.bias": norm.bias.double()}


def _centred(basis: Tensor) -> Tensor:
    """Q'C is its transpose: what of a dim's mean is in a coordinate goes."""
    return basis - basis.mean(0)


def _layer(layer: EncoderLayer, basis: Tensor) -> dict[str, Tensor]:
    """The weights of a layer that reads and writes the coordinates of `basis` (D, D)."""
    found: dict[str, Tensor] = {}
    for names, norm in ((("q", "k", "v"), layer.attention_norm), (("fc1",), layer.final_norm)):
        assert isinstance(norm, nn.LayerNorm)
        gain, shift = norm.weight.double(), norm.bias.double()
        for name in names:
            part: nn.Linear = getattr(layer, name)
            weight = part.weight.double()
            found[f"{name}.weight"] = (weight * gain) @ basis
            if part.bias is not None:
                found[f"{name}.bias"] = part.bias.double() + weight @ shift
    for name in ("out", "fc2"):
        part = getattr(layer, name)
        found[f"{name}.weight"] = _centred(basis).T @ part.weight.double()
        found[f"{name}.bias"] = _centred(basis).T @ part.bias.double()
    return {name: value.detach() for name, value in found.items()}


@torch.enable_grad()
def principal_directions(net: Hubert, waves: Sequence[Tensor]) -> Tensor:
    """(D, D) in float64, orthogonal: columns in order of what the output loses without them."""
    net.requires_grad_(False)
    D, generator = net.network.width, torch.Generator().manual_seed(0)
    moments, gradients = torch.zeros(0), torch.zeros(0)
    for wave in waves:
        inputs, outputs, last = _run(net, wave)
        projection = torch.randn(last.shape, generator=generator) / last.detach().std((0, 1))
        slopes = torch.autograd.grad((projection * last).sum(), outputs)
        if not len(moments):
            moments = gradients = torch.zeros(len(inputs), D, D, dtype=torch.float64)
        normed = torch.stack([F.layer_norm(x.detach()[0], (D,)) for x, _ in inputs]).double()
        felt = torch.stack([norm.weight * g[0] for (_, norm), g in zip(inputs, slopes, strict=True)]).double()
        moments = moments + normed.transpose(1, 2) @ normed
        gradients = gradients + felt.transpose(1, 2) @ felt
    total = torch.zeros(D, D, dtype=torch.float64)
    for S, G in zip(moments / moments.diagonal(dim1=1, dim2=2).sum(1)[:, None, None], gradients, strict=True):
        values, vectors = torch.linalg.eigh(S)
        root = vectors * values.clamp(min=0).sqrt() @ vectors.T
        total += root @ G @ root
    directions: Tensor = torch.linalg.eigh(total)[1].flip(1)
    return directions


def _run(net: Hubert, wave: Tensor) -> tuple[list[tuple[Tensor, nn.LayerNorm]], list[Tensor], Tensor]:
    """The inputs of all norms that read the stream, with the norms, what they give, and the last hidden state."""
    inputs: list[tuple[Tensor, nn.LayerNorm]] = []
    outputs: list[Tensor] = []

    def keep(norm: nn.Module, given: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(norm, nn.LayerNorm)
        inputs.append((given[0], norm))
        outputs.append(output)

    layers = [layer for layer in net.encoder.layers if isinstance(layer, EncoderLayer)]
    norms = [norm for layer in layers for norm in (layer.attention_norm, layer.final_norm)]
    hooks = [norm.register_forward_hook(keep) for norm in (*norms, net.encoder.norm)]
    try:
        features = net.front_end(wave[None]).detach().requires_grad_()
        last = net.encoder(features)[-1]
    finally:
        for hook in hooks:
            hook.remove()
    return inputs, outputs, last
