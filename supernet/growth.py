"""A trained supernet as the start of a larger one: training goes on with more choices or in a wider network."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from search_spaces import Network, Space, SpaceError
from supernet.importance import plain
from supernet.model import HubertSupernet

__all__ = ["grown"]

_GROWS = ("width", "heads", "ffn_dim")


@torch.no_grad()
def grown(model: HubertSupernet, space: Space, seed: int = 0) -> HubertSupernet:
    """A new supernet of `space`, with more choices or of a network with more width, heads or FFN units, on `model`'s.

    What is new reads as the rest does and is read with weights 0. So slices that are no wider than `model` are as they
    were; wider ones are nearly, since norms and the groups of the positional convolution depend on the width. In the
    same network all weights stay, and any other space of it can be taken afterwards (`trained_for_space`).
    Raises `SpaceError` if the networks differ in anything else, or one of these sizes is smaller.
    """
    before, after = model.space.network, space.network
    if before == after:
        same = copy.deepcopy(model)
        same.trained_for_space = False
        same.use_space(space)
        return same
    sizes = {name: (getattr(before, name), getattr(after, name)) for name in _GROWS}
    if replace(before, **{name: new for name, (_, new) in sizes.items()}) != after:
        raise SpaceError(
            f"space '{space.name}' is of another network than '{model.space.name}': only {', '.join(_GROWS)} can grow"
        )
    if any(new < old for old, new in sizes.values()) or _blocks(before) > _blocks(after):
        small = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in sizes.items() if new < old) or "FFN blocks"
        raise SpaceError(f"space '{space.name}' is of a smaller network than '{model.space.name}': {small}")
    model = plain(copy.deepcopy(model)).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        larger = HubertSupernet(space, model.head_layers, model.head_dim, model.frame_rule, prepare=model.prepare)
    larger.provenance = dict(model.provenance)
    stored, weights = model.state_dict(), larger.state_dict()
    units = _units(before, after)
    for name, value in weights.items():
        _put(name, value, stored[name], units)
    for name in weights:
        if name.endswith("weight_g"):  # of the norms of all outputs and inputs, of which there are more now
            old, new = (each[name.replace("weight_g", "weight_v")].norm(dim=(0, 1)) for each in (stored, weights))
            weights[name] *= new / old
    return larger


def _blocks(network: Network) -> int:
    return -(-network.ffn_dim // network.width)


def _units(before: Network, after: Network) -> Tensor:
    """Where the FFN units go: those of a block to the same block, see `slicing`."""
    if before.rotated:
        return torch.arange(before.ffn_dim)
    unit = torch.arange(before.ffn_dim)
    return unit // before.width * after.width + unit % before.width


def _put(name: str, value: Tensor, old: Tensor, units: Tensor) -> None:
    """The weights `old` among the untrained ones of `value`, which are scaled like them."""
    places = [torch.arange(size) for size in old.shape]
    part = name.split(".")[-2:][0]
    if part == "fc1":
        places[0] = units
    elif part == "fc2" and old.dim() > 1:
        places[1] = units
    if value.dim() > 1 and value.shape != old.shape:
        unread = torch.ones(value.shape[1], dtype=torch.bool)
        unread[places[1]] = False
        value *= old.std() / value.std()
        value[:, unread] = 0.0
    elif "norm" in part and name.endswith("weight"):
        value.fill_(old.median())
    value[torch.meshgrid(*places, indexing="ij")] = old
