"""What every cost and every score must do, as functions that raise AssertionError."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Sequence

import numpy as np

from search_spaces import AdditiveCost, Cost, HeldOutScore, Score, Space, Subnet, SuccessiveScore

__all__ = ["check_cost", "check_score"]


def _subnets(space: Space, n: int = 12) -> list[Subnet]:
    rng = np.random.default_rng(0)
    return list(dict.fromkeys([space.smallest, space.largest, *(space.sample(rng) for _ in range(n))]))


def check_cost(cost: Cost, space: Space) -> None:
    """A cost is a finite number that depends on the subnet alone; an additive one equals its table."""
    assert isinstance(cost, Cost), "a cost has of(subnet)"
    subnets = _subnets(space)
    values = [cost.of(subnet) for subnet in subnets]
    for subnet, value in zip(subnets, values):
        assert isinstance(value, (int, float)), f"{value!r} is no number"
        assert math.isfinite(value), f"cost of {subnet.id} is {value}"
    assert [cost.of(subnet) for subnet in reversed(subnets)] == values[::-1], "a cost depends on the subnet alone"
    if isinstance(cost, AdditiveCost):
        assert cost.table.space == space, "the table is of the space that is searched"
        assert [cost.table.of(subnet) for subnet in subnets] == values, "of(subnet) equals the table"


def check_score(score: Score, space: Space) -> None:
    """A score gives one finite number a subnet, whatever else is in the batch, and can be described and sent away."""
    assert isinstance(score, Score), "a score has name, higher_is_better, settings, and can be called"
    assert isinstance(score.name, str)
    assert isinstance(score.higher_is_better, bool)
    json.dumps(dict(score.settings), allow_nan=False)  # goes into run.json
    subnets = _subnets(space)
    values = _finite(score(subnets), len(subnets))
    assert _close(_finite(score(subnets[::-1]), len(subnets))[::-1], values), "the order of a batch changes nothing"
    assert _close([_finite(score([subnet]), 1)[0] for subnet in subnets[:3]], values[:3]), "nor does its size"
    assert list(score([])) == [], "no subnets have no scores"
    assert _close(_finite(pickle.loads(pickle.dumps(score))(subnets[:3]), 3), values[:3]), "evaluators get copies"
    if isinstance(score, HeldOutScore) and score.held_out is not None:
        _finite(score.held_out(subnets[:3]), 3)
    if isinstance(score, SuccessiveScore):
        _check_successive(score, subnets, values, score.higher_is_better)


def _check_successive(score: SuccessiveScore, subnets: list[Subnet], values: list[float], maximize: bool) -> None:
    best = (max if maximize else min)(range(len(values)), key=values.__getitem__)
    for (value, ruled_out), exact in zip(score.against(subnets, subnets[best], values[best]), values):
        assert math.isfinite(value)
        assert ruled_out or _close([value], [exact]), "a subnet that is not ruled out has its whole score"


def _finite(values: Sequence[float], count: int) -> list[float]:
    numbers = [float(value) for value in values]
    assert len(numbers) == count, f"{count} subnets have {count} scores; got {len(numbers)}"
    assert all(map(math.isfinite, numbers)), numbers
    return numbers


def _close(a: Sequence[float], b: Sequence[float]) -> bool:
    """Equal up to the rounding that sharing work between the subnets of a batch may change."""
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-7))
