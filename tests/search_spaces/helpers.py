"""Small random spaces and tables, and the value of a subnet by its definition."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from search_spaces import AdditiveTable, Space
from search_spaces.network import Network

__all__ = ["PROPERTY", "by_hand", "cases", "random_table", "small_space"]

PROPERTY = settings(max_examples=40, deadline=None)


def small_space(rng):
    layers = int(rng.integers(2, 5))
    network = Network(((4, 2, 2),), width=64, heads=4, ffn_dim=256, num_layers=layers, head_dim=4)

    def some(values):
        return tuple(sorted(rng.choice(values, int(rng.integers(1, len(values) + 1)), replace=False).tolist()))

    depths = {layers: tuple(range(layers))}
    if rng.random() < 0.7:
        depths[layers - 1] = tuple(sorted(rng.choice(layers, layers - 1, replace=False).tolist()))
    return Space(
        "random", network, some([16, 32, 64]), tuple(some([1, 2, 4]) for _ in range(layers)),
        tuple(some([1.0, 2.5]) for _ in range(layers)), depths,
    )  # fmt: skip


def random_table(space, rng, name, whole):
    draw = (lambda *_: int(rng.integers(-20, 60))) if whole else (lambda *_: float(rng.normal()))
    return AdditiveTable.build(space, name, "u", draw, draw)


@st.composite
def cases(draw, tables=1, whole=None):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    space = small_space(rng)
    kinds = [bool(rng.integers(2)) if whole is None else whole for _ in range(tables)]
    return space, [random_table(space, rng, f"t{i}", kind) for i, kind in enumerate(kinds)], rng


def by_hand(table, subnet):
    """The quantity by its definition, term by term."""
    space = table.space
    e, p = space.embed_dims.index(subnet.embed_dim), space.depths.index(subnet.depth)
    total = table.constant[e, p]
    for layer, choice in space.layers_of(subnet).items():
        total += table.layers[layer][e, p, space.choices[layer].index(choice)]
    return total.item()
