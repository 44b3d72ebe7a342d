"""Heads and FFN units in order of importance: a small subnet keeps the first of them, and starts with what matters.

A network that was trained whole (a Hugging Face HuBERT, stage 1) has them in no order. Permuting them changes nothing
of what the whole network computes. Embedding dims stay where they are: the positional convolution mixes them within
its groups only, so that most permutations of them would not leave the network as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from search_spaces import CheckFailed, Space, SpaceError
from supernet.audio import Utterance, load_audio, normalise, read_manifest
from supernet.calibration import save_calibration
from supernet.checkpoint import load_supernet, save_supernet
from supernet.layers import EncoderLayer
from supernet.model import HubertSupernet
from supernet.slicing import ffn_segments

__all__ = ["convert", "order_by_importance"]


@torch.no_grad()
def convert(
    source: str, out: Path, space: Space | None = None, audio: Path | None = None, sort: bool = True, most: int = 24
) -> HubertSupernet:
    """Writes the model at `source` as a supernet of ours, in order of importance, and reads it back.

    `audio`: a manifest, of which `most` recordings, from all over, tell what is important. Raises `CheckFailed` where
    the largest subnet no longer computes what the model does.
    """
    before, model = load_supernet(source, space=space), load_supernet(source, space=space)
    largest, network = model.space.largest, model.space.network
    if (largest.embed_dim, *set(largest.heads), *set(largest.ffn_dims), largest.depth) != (
        network.width,
        network.heads,
        network.ffn_dim,
        network.num_layers,
    ):
        raise SpaceError(f"space '{model.space.name}' lacks the whole network: its largest subnet must be the model")
    if sort:
        features = [] if audio is None else _features(model, read_manifest(audio), most)
        order_by_importance(model, features)
    save_supernet(model, out)
    if model.calibration is not None:
        save_calibration(model.calibration, out / "calibration.safetensors")
    after = load_supernet(out)
    wav = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    pairs = zip(before(wav).hidden_states, after(wav).hidden_states, strict=True)
    difference = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    if not difference < 1e-4:
        raise CheckFailed(f"the largest subnet of {out} differs from {source} by {difference:.1e} (relative)")
    return after


def _features(model: HubertSupernet, utterances: Sequence[Utterance], most: int) -> list[Tensor]:
    chosen = utterances[:: max(1, len(utterances) // most)][:most]
    waves = [load_audio(utterance.audio, model.space.network.receptive_field) for utterance in chosen]
    return [model.front_end(torch.from_numpy(normalise(wave))[None])[0] for wave in waves]


@torch.no_grad()
def order_by_importance(model: HubertSupernet, features: Sequence[Tensor] = ()) -> HubertSupernet:
    """`model`, its heads and FFN units of every layer put in order, the most important first.

    With `features`, front-end features (T, C) of some speech: by what each adds to its layer's output on it, as mean
    energy (mean square of the unit, times the norm of its outgoing weights). Without: by magnitude alone, the norm of
    incoming times the norm of outgoing weights (of a head, its values' and its outputs').
    """
    energy = _energies(model, features) if features else None
    head_dim = model.space.network.head_dim
    for index in range(model.space.network.num_layers):
        layer = model.encoder.layers[index]
        assert isinstance(layer, EncoderLayer)
        inner, units = energy[index] if energy else (layer.v.weight.norm(dim=1), layer.fc1.weight.norm(dim=1))
        heads = (inner * layer.out.weight.norm(dim=0)).square().view(-1, head_dim).sum(1)
        order = torch.argsort(heads, descending=True, stable=True)
        _permute_heads(layer, (order[:, None] * head_dim + torch.arange(head_dim, device=order.device)).flatten())
        best = torch.argsort(units * layer.fc2.weight.norm(dim=0), descending=True, stable=True)
        places = _places(model.space, index).to(best.device)
        _permute_units(layer, torch.empty_like(best).scatter_(0, places, best))
    model.provenance = {**model.provenance, "ordered_by": "activations" if features else "magnitude"}
    return model


def _energies(model: HubertSupernet, features: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """For each layer, the root mean square of what goes into `out` and into `fc2` on this speech."""
    with model.active(model.space.largest):
        encoder = model.extract().encoder.eval()
    result: list[tuple[Tensor, Tensor]] = []
    sums: dict[int, Tensor] = {}

    def heard(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        sums[id(module)] = sums.get(id(module), torch.zeros(())) + inputs[0].double().square().sum((0, 1))

    parts = [part for layer in encoder.layers for part in (layer.out, layer.fc2)]
    hooks = [part.register_forward_pre_hook(heard) for part in parts]  # type: ignore[union-attr, operator, arg-type]
    for each in features:
        encoder(each[None])
    for hook in hooks:
        hook.remove()
    frames = sum(len(each) for each in features)
    energies = [(sums[id(part)] / frames).sqrt().float() for part in parts]
    result += zip(energies[::2], energies[1::2], strict=True)
    return result


def _places(space: Space, layer: int) -> Tensor:
    """The stored FFN units of a layer, those that most (embed dim, FFN ratio) choices keep first."""
    kept = torch.zeros(space.network.ffn_dim, dtype=torch.long)
    for D, ratio in product(space.embed_dims, space.ffn_ratios[layer]):
        for part in ffn_segments(space.network, D, int(ratio * D)):
            kept[part] += 1
    return torch.argsort(kept, descending=True, stable=True)


def _permute_heads(layer: EncoderLayer, order: Tensor) -> None:
    for part in (layer.q, layer.k, layer.v):
        part.weight.copy_(part.weight[order])
        part.bias.copy_(part.bias[order])
    layer.out.weight.copy_(layer.out.weight[:, order])


def _permute_units(layer: EncoderLayer, order: Tensor) -> None:
    """Unit `order[i]` comes to place i."""
    layer.fc1.weight.copy_(layer.fc1.weight[order])
    layer.fc1.bias.copy_(layer.fc1.bias[order])
    layer.fc2.weight.copy_(layer.fc2.weight[:, order])
