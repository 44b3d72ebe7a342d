"""The nearest subnet that keeps the budgets, found exactly: distance to a subnet is an `AdditiveTable`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from search_spaces import AdditiveTable, Feasible, Space, Subnet

__all__ = ["SHAPE_WEIGHT", "repaired"]

SHAPE_WEIGHT = 4  # one step of embed dim or depth counts as this many steps of heads or ratio: all layers feel it


def repaired(feasible: Feasible, subnet: Subnet, shape_weight: int = SHAPE_WEIGHT) -> Subnet:
    """`subnet`, or the subnet nearest to it that keeps the budgets."""
    if feasible.contains(subnet):
        return subnet
    return feasible.best(_distance(feasible.space, subnet, shape_weight), maximize=False)


def _distance(space: Space, subnet: Subnet, shape_weight: int) -> AdditiveTable:
    """Steps from `subnet`: of heads and FFN ratio in the layers both keep, of embed dim and depth weighted."""
    embed_dim, depth, *places = space.encode(subnet).tolist()
    shape = _steps(len(space.embed_dims), embed_dim)[:, None] + _steps(len(space.depths), depth)
    layers = []
    for entry, (heads, ratios) in enumerate(space.sizes):
        of_heads = _steps(heads, places[2 * entry])
        of_ratio = _steps(ratios, places[2 * entry + 1])
        weight = shape_weight if entry == space.network.num_layers else 1  # the front end, too, is felt by all layers
        steps = weight * (of_heads[:, None] + of_ratio).reshape(-1)
        layers.append(np.broadcast_to(steps, (*shape.shape, len(steps))))
    return AdditiveTable(space, "distance", "steps", shape_weight * shape, tuple(layers))


def _steps(choices: int, at: int) -> npt.NDArray[np.int64]:
    """From the choice `at` to each; 0 if the layer is not kept (-1)."""
    return np.abs(np.arange(choices) - at) if at >= 0 else np.zeros(choices, dtype=np.int64)
