"""Spaces proposed for a network that comes without one: coarse, fine, or for subnets that are alike in all layers."""

from __future__ import annotations

from search_spaces.errors import SpaceError
from search_spaces.hubert import get_space
from search_spaces.network import Network
from search_spaces.space import Space
from search_spaces.subnet import ffn_ratio

__all__ = ["PROPOSALS", "evenly", "proposed_space", "space_for"]

PROPOSALS = {
    "coarse": "heads and FFN in quarters of each layer, none taken away",
    "fine": "heads in ones and FFN in eighths of each layer; 0 takes that half away",
    "uniform": "all heads, FFN in eighths and fewer layers, to search with --uniform: what stock classes can load",
}
_EIGHTHS = 8


def proposed_space(network: Network, kind: str, name: str | None = None) -> Space:
    """The space of a kind (`PROPOSALS`) for a network, at its full width. Raises `SpaceError` for another kind.

    The width is a choice of rotated networks alone, in eighths from a half on: others that were trained whole have no
    order of their embedding dims. FFN sizes are the nearest whole units.
    """
    if kind not in PROPOSALS:
        raise SpaceError(f"unknown kind of space '{kind}'; known: {', '.join(PROPOSALS)}")
    layers, heads = network.num_layers, network.heads
    most = range(1, heads + 1)
    parts, first, depths = {
        "coarse": (4, 1, [layers]),
        "fine": (_EIGHTHS, 0, [layers]),
        "uniform": (_EIGHTHS, 1, list(range(max(1, layers // 2), layers + 1))),
    }[kind]
    chosen = {
        "coarse": sorted({max(1, round(heads * part / 4)) for part in (1, 2, 3, 4)}),
        "fine": [0, *most],
        "uniform": [heads],
    }[kind]
    units = sorted({round(network.ffn_dim * part / parts) for part in range(first, parts + 1)})
    ratios = tuple(ffn_ratio(each, network.width) for each in units if each or not first)
    parts_kept = range(_EIGHTHS // 2, _EIGHTHS + 1) if network.rotated else (_EIGHTHS,)
    return Space(
        name or f"{kind}-{network.width}",
        network,
        tuple(network.width * part // _EIGHTHS for part in parts_kept),
        (tuple(chosen),) * layers,
        (ratios,) * layers,
        {depth: evenly(layers, depth) for depth in depths},
    )


def space_for(network: Network, name: str) -> Space:
    """The space that a user names for a network: proposed, of a name, or in a TOML file."""
    return proposed_space(network, name) if name in PROPOSALS else get_space(name)


def evenly(layers: int, depth: int) -> tuple[int, ...]:
    """The layers (0-based) that a subnet of this depth keeps: those taken away are evenly spread, the last stays."""
    gone = layers - depth
    dropped = {round((i + 1) * layers / (gone + 1)) - 1 for i in range(gone)}
    free = (layer for layer in range(layers - 1) if layer not in dropped)
    while len(dropped) < gone:
        dropped.add(next(free))
    return tuple(layer for layer in range(layers) if layer not in dropped)
