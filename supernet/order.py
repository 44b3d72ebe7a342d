"""Heads, FFN units and, in an elastic front end, channels in order of importance: subnets keep the first of each.

A network that was trained as a whole (a Hugging Face HuBERT, stage 1) has them in arbitrary order, and permuting them
does not change its outputs. Embedding dims are not permuted: the positional convolution mixes them only within its
groups, so most permutations would change the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path

import torch
from torch import Tensor, nn

from search_spaces import CheckFailed, Space, SpaceError
from supernet.audio import Utterance, load_audio, read_manifest
from supernet.calibration import save_calibration
from supernet.checkpoint import load_supernet, save_supernet
from supernet.companion import save_rest
from supernet.layers import EncoderLayer, FrontEnd
from supernet.model import HubertSupernet
from supernet.slicing import ffn_segments

__all__ = ["convert", "order_by_importance", "order_channels"]


@torch.no_grad()
def convert(
    source: str,
    out: Path,
    space: Space | None = None,
    audio: Path | None = None,
    sort: bool = True,
    max_recordings: int = 24,
) -> HubertSupernet:
    """Writes the model at `source` as a supernet of ours, in order of importance, and reads it back.

    `audio`: a manifest; importance is measured on at most `max_recordings` evenly spaced recordings of it, without
    audio on the weights alone. Raises `CheckFailed` if the largest subnet's outputs differ from the model's.
    """
    before, model = load_supernet(source, space=space), load_supernet(source, space=space)
    _check_whole(model.space)
    if sort:
        waves = [] if audio is None else _waves(model, read_manifest(audio), max_recordings)
        if model.space.elastic_front_end:
            order_channels(model, waves)
        order_by_importance(model, [model.front_end(wave[None])[0] for wave in waves])
    save_supernet(model, out)
    if model.calibration is not None:
        save_calibration(model.calibration, out / "calibration.safetensors")
    if before.source is not None:
        save_rest(before.source, out)
    after = load_supernet(out)
    difference = _relative_difference(before, after)
    if not difference < 1e-4:
        raise CheckFailed(f"the largest subnet written differs from {source} by {difference:.1e} (relative)")
    return after


def _check_whole(space: Space) -> None:
    largest, network = space.largest, space.network
    sizes = (largest.embed_dim, *set(largest.heads), *set(largest.ffn_dims), largest.depth)
    if sizes != (network.width, network.heads, network.ffn_dim, network.num_layers):
        raise SpaceError(f"space '{space.name}' lacks the whole network: its largest subnet must be the model")


def _relative_difference(before: HubertSupernet, after: HubertSupernet) -> float:
    """The largest difference of a hidden state on one second of noise, relative to the state's largest value."""
    wav = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    pairs = zip(before(wav).hidden_states, after(wav).hidden_states, strict=True)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def _waves(model: HubertSupernet, utterances: Sequence[Utterance], count: int) -> list[Tensor]:
    """Waveforms (S,), as the model takes them, of at most `count` evenly spaced utterances."""
    chosen = utterances[:: max(1, len(utterances) // count)][:count]
    network = model.space.network
    most = None if network.max_samples is None else network.max_samples / 16_000
    waves = [load_audio(utterance.audio, network.receptive_field, most) for utterance in chosen]
    return [torch.from_numpy(model.prepare(wave)) for wave in waves]


@torch.no_grad()
def order_by_importance(model: HubertSupernet, features: Sequence[Tensor] = ()) -> HubertSupernet:
    """Sorts the heads and the FFN units of every layer of `model`, in place, the most important first; returns `model`.

    With `features`, front-end features (T, C) of some speech, importance is the mean energy that a unit adds to its
    layer's output: the root mean square of its activation times the norm of its outgoing weights. Without, it is the
    norm of the incoming times the norm of the outgoing weights (for heads: of the values and of the output projection).
    A head's importance is the sum of the squares of its dims' importances.
    """
    activations = _activations(model, features) if features else None
    head_dim = model.space.network.head_dim
    for index in range(model.space.network.num_layers):
        layer = model.encoder.layers[index]
        assert isinstance(layer, EncoderLayer)
        inner, units = activations[index] if activations else (layer.v.weight.norm(dim=1), layer.fc1.weight.norm(dim=1))
        heads = (inner * _outgoing(layer.out)).square().view(-1, head_dim).sum(1)
        _permute_heads(layer, torch.argsort(heads, descending=True, stable=True), head_dim)
        best = torch.argsort(units * _outgoing(layer.fc2), descending=True, stable=True)
        positions = _positions(model.space, index).to(best.device)
        _permute_units(layer, torch.empty_like(best).scatter_(0, positions, best))
    model.provenance = {**model.provenance, "ordered_by": "activations" if features else "magnitude"}
    return model


def _outgoing(linear: nn.Module) -> Tensor:
    """The norm of the weights that read each input."""
    assert isinstance(linear, nn.Linear)
    norms: Tensor = torch.linalg.vector_norm(linear.weight, dim=0)
    return norms


@torch.no_grad()
def order_channels(model: HubertSupernet, waves: Sequence[Tensor] = ()) -> HubertSupernet:
    """Sorts the channels of every convolution of `model`, in place, the most important first; returns `model`.

    With `waves`, importance is the root mean square of a channel's output times the norm of the weights that read it;
    without, the norm of the incoming times the outgoing ones. The outputs of a mel front end's last convolution are the
    embedding dims, and stay.
    """
    front, encoder, mel = model.front_end, model.encoder, model.space.network.mel
    convs: list[nn.Conv1d] = list(front.convs)  # type: ignore[arg-type]
    for i, conv in enumerate(convs):
        last = i + 1 == len(convs)
        if last and mel:
            break
        reader = encoder.projection.weight if last else convs[i + 1].weight  # type: ignore[union-attr]
        outgoing = reader.norm(dim=0) if last else reader.transpose(0, 1).flatten(1).norm(dim=1)
        incoming = _channel_sizes(front, i, waves) if waves else conv.weight.flatten(1).norm(dim=1)
        order = torch.argsort(incoming * outgoing, descending=True, stable=True)
        norms: list[nn.Module | None] = [front.norm] if i == 0 else []
        norms += [front.norms[i]] if front.norms is not None else []
        norms += [encoder.input_norm] if last else []
        for part in (conv, *norms):
            for value in () if part is None else part.parameters():
                value.copy_(value[order])
        reader.copy_(reader[:, order])
    return model


def _channel_sizes(front: FrontEnd, index: int, waves: Sequence[Tensor]) -> Tensor:
    """Root mean square (C,) of what convolution `index` passes on, on these waveforms."""
    total, count = torch.zeros(()), 0
    for wave in waves:
        x = next(islice(front.outputs(wave[None]), index, None))
        total, count = total + x.double().square().sum((0, 2)), count + x.shape[2]
    return (total / count).sqrt().float()


def _activations(model: HubertSupernet, features: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """For each layer, the root mean square of the inputs of `out` and of `fc2` on this speech."""
    with model.active(model.space.largest):
        encoder = model.extract().encoder.eval()
    layers = [layer for layer in encoder.layers if isinstance(layer, EncoderLayer)]
    parts = [part for layer in layers for part in (layer.out, layer.fc2)]
    sums: dict[int, Tensor] = {}

    def add_squares(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sums[id(module)] = sums.get(id(module), torch.zeros(())) + inputs[0].double().square().sum((0, 1))

    hooks = [part.register_forward_pre_hook(add_squares) for part in parts]
    for each in features:
        encoder(each[None])
    for hook in hooks:
        hook.remove()
    frames = sum(len(each) for each in features)
    root_mean_squares = [(sums[id(part)] / frames).sqrt().float() for part in parts]
    return list(zip(root_mean_squares[::2], root_mean_squares[1::2], strict=True))


def _positions(space: Space, layer: int) -> Tensor:
    """Positions of a layer's FFN units, by how many (embed dim, FFN ratio) choices keep them, most often kept first."""
    kept = torch.zeros(space.network.ffn_dim, dtype=torch.long)
    for D, ratio in product(space.embed_dims, space.ffn_ratios[layer]):
        for part in ffn_segments(space.network, D, int(ratio * D)):
            kept[part] += 1
    return torch.argsort(kept, descending=True, stable=True)


def _permute_heads(layer: EncoderLayer, heads: Tensor, head_dim: int) -> None:
    """Head `heads[i]` moves to position i."""
    order = (heads[:, None] * head_dim + torch.arange(head_dim, device=heads.device)).flatten()
    for part in (layer.q, layer.k, layer.v):
        for value in part.parameters():
            value.copy_(value[order])
    assert isinstance(layer.out, nn.Linear)
    layer.out.weight.copy_(layer.out.weight[:, order])
    if layer.relative is not None:
        layer.relative.weight.copy_(layer.relative.weight[:, heads])
        layer.relative.const.copy_(layer.relative.const[heads])
        layer.relative.blocks.copy_(layer.relative.blocks[heads])


def _permute_units(layer: EncoderLayer, order: Tensor) -> None:
    """Unit `order[i]` moves to position i."""
    assert isinstance(layer.fc2, nn.Linear)
    layer.fc1.weight.copy_(layer.fc1.weight[order])
    layer.fc1.bias.copy_(layer.fc1.bias[order])
    layer.fc2.weight.copy_(layer.fc2.weight[:, order])
