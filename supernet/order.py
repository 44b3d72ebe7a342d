"""Heads, FFN units and, in an elastic front end, channels in order of importance: subnets keep the first of each.

A network that was trained as a whole (a Hugging Face HuBERT, stage 1) has them in arbitrary order, and permuting them
does not change its outputs. Embedding dims are not permuted: the positional convolution mixes them only within its
groups, so most permutations would change the outputs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from search_spaces import CheckFailed, NasError, Space, SpaceError
from supernet.audio import RATE, Utterance, load_audio, read_manifest
from supernet.calibration import save_calibration
from supernet.checkpoint import load_supernet, save_supernet
from supernet.companion import save_rest
from supernet.growth import grown
from supernet.importance import compensate, measure_importance, plain
from supernet.layers import EncoderLayer
from supernet.model import WINDOWS, HubertSupernet, check_compensation
from supernet.rotation import rotated
from supernet.slicing import ffn_segments

__all__ = ["convert", "order_by_importance", "order_channels", "order_measured_channels", "trained_elastic"]

_MAX_SECONDS = 10.0  # of a recording


def convert(
    source: str,
    out: Path,
    space: Space | None = None,
    audio: Path | None = None,
    sort: bool = True,
    max_recordings: int = 96,
    rotate: bool = False,
    compensation: str | None = None,
) -> HubertSupernet:
    """Writes the model at `source` as a supernet of ours, in order of importance, and reads it back.

    `space`: also one with more choices or of a wider network, into which a supernet of ours grows. `audio`: a manifest;
    importance is measured on at most `max_recordings` evenly spaced recordings of it, and `compensation` (default:
    regression) says what stays of dropped heads and units. Without audio, importance is read off the weights alone. Of
    a supernet whose subnets were trained only channels are sorted: the order of the rest is what they have learned.
    `rotate`: the width becomes elastic, in directions that matter most on `audio`; `space` is then one of the rotated
    network.
    Raises `CheckFailed` if the largest subnet's outputs differ from the model's.
    """
    check_compensation(compensation or "regression")
    before = _in_space(source, None if rotate else space)
    model = copy.deepcopy(before)
    _check_whole(model.space)
    elastic = trained_elastic(model)
    if elastic and compensation is not None:
        raise NasError(
            f"--compensation has no effect on {source}: its subnets were trained, so its heads and FFN units stay as "
            "they are"
        )
    waves = [] if audio is None or not (sort or rotate) else _waves(model, read_manifest(audio), max_recordings)
    if rotate:
        model = rotated(model, waves, space)
    if sort and elastic and not rotate:
        order_measured_channels(model, waves)
    elif sort:
        order_by_importance(model, waves, compensation or "regression")
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


def trained_elastic(model: HubertSupernet) -> bool:
    """Whether stage 2 has trained the subnets of `model`."""
    recipes = model.provenance.get("recipes")
    return any(isinstance(each, dict) and each.get("stage") == 2 for each in recipes or ())


def _check_whole(space: Space) -> None:
    largest, network = space.largest, space.network
    sizes = (largest.embed_dim, *set(largest.heads), *set(largest.ffn_dims), largest.depth)
    if sizes != (network.width, network.heads, network.ffn_dim, network.num_layers):
        raise SpaceError(f"space '{space.name}' lacks the whole network: its largest subnet must be the model")


def _in_space(source: str, space: Space | None) -> HubertSupernet:
    """The model at `source` with the subnets of `space`, into which it grows if that is no part of its own space."""
    model = load_supernet(source)
    if space is None:
        return model
    try:
        model.use_space(space)
    except SpaceError:
        return grown(model, space)
    return model


@torch.no_grad()
def _relative_difference(before: HubertSupernet, after: HubertSupernet) -> float:
    """The largest difference of a hidden state on one second of noise, relative to the state's largest value.

    Of a rotated network the last is compared alone.
    """
    wav = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    first = -1 if after.space.network.rotated and not before.space.network.rotated else 0
    pairs = zip(before(wav).hidden_states[first:], after(wav).hidden_states[first:], strict=True)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def _waves(model: HubertSupernet, utterances: Sequence[Utterance], count: int) -> list[Tensor]:
    """Waveforms (S,), as the model takes them, of at most `count` evenly spaced utterances (of the split train)."""
    utterances = [utterance for utterance in utterances if utterance.split == "train"] or utterances
    chosen = utterances[:: max(1, len(utterances) // count)][:count]
    network = model.space.network
    most = min(_MAX_SECONDS, (network.max_samples or math.inf) / RATE)
    waves = [load_audio(utterance.audio, network.receptive_field, most) for utterance in chosen]
    return [model.heard(wave, WINDOWS[i % len(WINDOWS)]) for i, wave in enumerate(waves)]


def order_by_importance(
    model: HubertSupernet, waves: Sequence[Tensor] = (), compensation: str = "regression"
) -> HubertSupernet:
    """Sorts heads, FFN units and channels that can be dropped, in place, the most important first; returns `model`.

    With `waves` (S,), some speech as the model takes it, importance is `importance.measure_importance`, and
    `compensation` says what stays of heads and units that are dropped. Without, importance is the norm of the incoming
    times the norm of the outgoing weights (for heads: of the values and of the output projection, the sum of the
    squares over the head's dims).
    """
    check_compensation(compensation)
    elastic = model.space.elastic_front_end
    plain(model)
    measured = measure_importance(model, waves, elastic) if len(waves) else None
    if elastic:
        order_channels(model, measured.channels if measured else ())
    head_dim, orders = model.space.network.head_dim, list[tuple[Tensor, Tensor]]()
    for index in range(model.space.network.num_layers):
        layer = model.encoder.layers[index]
        assert isinstance(layer, EncoderLayer)
        if measured is not None:
            heads, units = measured.heads[index], measured.units[index]
        else:
            inner, units = _size(layer.v) * _outgoing(layer.out), _size(layer.fc1) * _outgoing(layer.fc2)
            heads = inner.square().view(-1, head_dim).sum(1)
        inputs = _permute_heads(layer, torch.argsort(heads, descending=True, stable=True), head_dim)
        best = torch.argsort(units, descending=True, stable=True)
        positions = _positions(model.space, index).to(best.device)
        order = torch.empty_like(best).scatter_(0, positions, best)
        _permute_units(layer, order)
        orders.append((inputs, order))
    if measured is not None and compensation != "none":
        means = [(a[i], b[j]) for (a, b), (i, j) in zip(measured.means, orders, strict=True)]
        covariances = [(a[i][:, i], b[j][:, j]) for (a, b), (i, j) in zip(measured.covariances, orders, strict=True)]
        compensate(model, means, covariances if compensation == "regression" else None)
    ordered = "magnitude" if measured is None else "Gauss-Newton"
    model.provenance = {**model.provenance, "ordered_by": ordered}
    return model


def _size(linear: nn.Module) -> Tensor:
    """The norm of the weights of each output."""
    assert isinstance(linear, nn.Linear)
    norms: Tensor = torch.linalg.vector_norm(linear.weight.detach(), dim=1)
    return norms


def _outgoing(linear: nn.Module) -> Tensor:
    """The norm of the weights that read each input."""
    assert isinstance(linear, nn.Linear)
    norms: Tensor = torch.linalg.vector_norm(linear.weight.detach(), dim=0)
    return norms


def order_measured_channels(model: HubertSupernet, waves: Sequence[Tensor] = ()) -> HubertSupernet:
    """`order_channels` by what `waves` (S,) show, if the front end is elastic."""
    if not model.space.elastic_front_end:
        return model
    return order_channels(model, measure_importance(model, waves, True).channels if len(waves) else ())


@torch.no_grad()
def order_channels(model: HubertSupernet, importance: Sequence[Tensor] = ()) -> HubertSupernet:
    """Sorts the channels of every convolution of `model`, in place, the most important first; returns `model`.

    `importance` (C,) of each; without, it is the norm of the incoming times the norm of the outgoing weights. The
    outputs of a mel front end's last convolution are the embedding dims, and stay.
    """
    front, encoder, mel = model.front_end, model.encoder, model.space.network.mel
    convs: list[nn.Conv1d] = list(front.convs)  # type: ignore[arg-type]
    for i, conv in enumerate(convs):
        last = i + 1 == len(convs)
        if last and mel:
            break
        reader = encoder.projection.weight if last else convs[i + 1].weight  # type: ignore[union-attr]
        outgoing = reader.norm(dim=0) if last else reader.transpose(0, 1).flatten(1).norm(dim=1)
        weights = importance[i] if importance else conv.weight.flatten(1).norm(dim=1) * outgoing
        order = torch.argsort(weights, descending=True, stable=True)
        norms: list[nn.Module | None] = [front.norm] if i == 0 else []
        norms += [front.norms[i]] if front.norms is not None else []
        norms += [encoder.input_norm] if last else []
        for part in (conv, *norms):
            for value in () if part is None else part.parameters():
                value.copy_(value[order])
        reader.copy_(reader[:, order])
    return model


def _positions(space: Space, layer: int) -> Tensor:
    """Positions of a layer's FFN units, by how many (embed dim, FFN ratio) choices keep them, most often kept first."""
    kept = torch.zeros(space.network.ffn_dim, dtype=torch.long)
    for D, ratio in product(space.embed_dims, space.ffn_ratios[layer]):
        for part in ffn_segments(space.network, D, int(ratio * D)):
            kept[part] += 1
    return torch.argsort(kept, descending=True, stable=True)


@torch.no_grad()
def _permute_heads(layer: EncoderLayer, heads: Tensor, head_dim: int) -> Tensor:
    """Head `heads[i]` moves to position i; returns the same for the inputs of `out` (H * head dim,)."""
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
    return order


@torch.no_grad()
def _permute_units(layer: EncoderLayer, order: Tensor) -> None:
    """Unit `order[i]` moves to position i."""
    assert isinstance(layer.fc2, nn.Linear)
    layer.fc1.weight.copy_(layer.fc1.weight[order])
    layer.fc1.bias.copy_(layer.fc1.bias[order])
    layer.fc2.weight.copy_(layer.fc2.weight[:, order])
