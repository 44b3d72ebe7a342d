"""Subnets, the spaces they form, and exact questions about additive quantities over whole spaces.

subnet.py    Subnet: one architecture
space.py     Space and Network: the set of subnets, and what they are slices of
hubert.py    the named spaces, and spaces from TOML files
additive.py  AdditiveTable and Feasible: count, sample, best and front by dynamic programming
chain.py     ChainTable: with terms of neighbouring layers
paths.py     optimal paths: best first, and fronts
errors.py    the errors a user can cause
"""

from search_spaces.additive import AdditiveTable, Feasible, FrontPoint
from search_spaces.chain import ChainTable
from search_spaces.errors import (
    AudioError,
    CheckFailed,
    CheckpointError,
    InfeasibleError,
    NasError,
    RunError,
    SpaceError,
)
from search_spaces.hubert import SPACES, get_space, space_from_dict
from search_spaces.space import Network, Space
from search_spaces.subnet import Subnet, ffn_ratio

__all__ = [
    "AdditiveTable",
    "AudioError",
    "ChainTable",
    "CheckFailed",
    "CheckpointError",
    "Feasible",
    "FrontPoint",
    "InfeasibleError",
    "NasError",
    "Network",
    "RunError",
    "SPACES",
    "Space",
    "SpaceError",
    "Subnet",
    "ffn_ratio",
    "get_space",
    "space_from_dict",
]
