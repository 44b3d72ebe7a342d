"""Tries against brute force where the trellis must merge states."""

import numpy as np

from search_spaces import AdditiveTable, Feasible, Space, trellis
from search_spaces.space import Network


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


def by_hand(table, subnet):
    """The quantity by its definition, term by term."""
    space = table.space
    e, p = space.embed_dims.index(subnet.embed_dim), space.depths.index(subnet.depth)
    total = table.constant[e, p]
    for layer, choice in space.layers_of(subnet).items():
        total += table.layers[layer][e, p, space.choices[layer].index(choice)]
    return total.item()


def test_too_many_states_round_up_instead_of_failing(monkeypatch):
    monkeypatch.setattr(trellis, "MAX_STATES", 40)
    rng = np.random.default_rng(0)
    space = small_space(np.random.default_rng(5))
    tables = [random_table(space, rng, "a", whole=True), random_table(space, rng, "b", whole=False)]
    limits = [(t, float(np.median([by_hand(t, s) for s in space]))) for t in tables]
    feasible = Feasible(space, limits)
    assert 0 < feasible.count() <= sum(feasible.contains(s) for s in space)
    assert all(feasible.contains(s) for s in feasible.sample(rng, 200))
