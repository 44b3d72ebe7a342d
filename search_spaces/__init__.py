"""Subnets, the spaces they form, and exact answers to questions about additive quantities over whole spaces.

subnet.py       Subnet: one architecture
network.py      Network: what subnets are slices of, described by its parts
space.py        Space: a set of subnets
hubert.py       the named spaces, and spaces from TOML files
additive.py     AdditiveTable and Feasible: count, sample, best and front by dynamic programming
chain.py        ChainTable: with terms of neighbouring layers
vector_sums.py  the values of many subnets at once
trellis.py      the subnets that keep limits, as a trellis: building, counting, drawing
paths.py        optimal paths through trellises: best first, and Pareto fronts
budget.py       Budget: a hard limit on one cost
protocols.py    Cost and Score: what users may implement
settings.py     typed settings for Python, the command line and files
registry.py     tables of names, extended by entry points
files.py        atomic writes, the cache folder
design.py       what to evaluate before anything is known
synthetic.py    a made-up score with a known optimum
types.py        types that many modules share
rooms.py        whether this project's top-level names lead to this project
errors.py       the errors a user can cause
"""

from search_spaces.additive import AdditiveTable, Feasible, FrontPoint
from search_spaces.budget import Budget
from search_spaces.chain import ChainTable
from search_spaces.errors import (
    AudioError,
    CheckFailed,
    CheckpointError,
    IdentityError,
    InfeasibleError,
    NasError,
    RunError,
    SpaceError,
)
from search_spaces.hubert import SPACES, as_space, get_space, space_from_dict
from search_spaces.network import Network
from search_spaces.protocols import AdditiveCost, Cost, HasSpace, HeldOutScore, PredictedCost, Score, SuccessiveScore
from search_spaces.rooms import check_rooms
from search_spaces.space import Space
from search_spaces.subnet import Subnet, ffn_ratio

check_rooms()

__all__ = [
    "AdditiveCost",
    "AdditiveTable",
    "AudioError",
    "Budget",
    "ChainTable",
    "CheckFailed",
    "CheckpointError",
    "Cost",
    "Feasible",
    "FrontPoint",
    "HasSpace",
    "HeldOutScore",
    "IdentityError",
    "InfeasibleError",
    "NasError",
    "Network",
    "PredictedCost",
    "RunError",
    "SPACES",
    "Score",
    "Space",
    "SpaceError",
    "Subnet",
    "SuccessiveScore",
    "as_space",
    "ffn_ratio",
    "get_space",
    "space_from_dict",
]
