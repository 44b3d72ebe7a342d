from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nas.executors import LocalExecutor
from nas.testing.worlds import Counting, tiny_space
from search_spaces import NasError, Subnet

SUBNETS = list(tiny_space())[:4]


def outcomes(score):
    return [outcome for chunk in LocalExecutor(score).run(SUBNETS) for outcome in chunk]


def test_a_batch_is_scored_in_one_call():
    score = Counting(lambda subnets: [1.5] * len(subnets))
    assert [o.score for o in outcomes(score)] == [1.5] * 4
    assert score.scored == SUBNETS


def test_only_the_subnet_at_fault_fails():
    def score(subnets):
        if SUBNETS[2] in subnets:
            raise ValueError("shape mismatch\nlong traceback")
        return [1.0] * len(subnets)

    results = outcomes(score)
    assert [o.score for o in results] == [1.0, 1.0, None, 1.0]
    assert results[2].error == "ValueError: shape mismatch"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (float("nan"), "score is NaN"),
        (float("-inf"), "score is infinite"),
        (None, "score is not a number but NoneType"),
        ("much", "score is not a number but str"),
        ((0.5, True), "score is not a number but tuple"),
        ((1, 2, 3), "score is not a number but tuple"),
        (10**400, "score is infinite"),
    ],
)
def test_what_is_not_a_finite_number_is_a_failure(value, error):
    results = outcomes(lambda subnets: [2.0, value, 2.0, 2.0])
    assert [o.error for o in results] == [None, error, None, None]


def test_a_wrong_number_of_scores_is_refused():
    with pytest.raises(NasError, match="one number for each subnet; got 1 for 4"):
        outcomes(lambda subnets: [1.0])


@pytest.mark.parametrize("kind", [float, np.float32, torch.tensor, lambda value: torch.tensor([value])])
def test_a_score_of_one_subnet_is_recognised(kind):
    asked = []

    def score(subnet):
        value = kind(subnet.embed_dim / 2)  # a list has no embed_dim
        asked.append(subnet)
        return value

    assert [o.score for o in outcomes(score)] == [subnet.embed_dim / 2 for subnet in SUBNETS]
    assert asked == SUBNETS, "each is scored once"


def test_a_score_of_one_subnet_that_takes_anything_is_recognised():
    assert [o.score for o in outcomes(lambda subnet: 0.5)] == [0.5] * 4
    assert [o.error for o in outcomes(lambda subnet: math.nan)] == ["score is NaN"] * 4
    assert [o.error for o in outcomes(lambda subnet: None)] == ["score is not a number but NoneType"] * 4


def test_a_score_of_one_subnet_is_recognised_by_the_first_that_it_can_score():
    def score(subnet):
        if subnet.depth == 2:
            raise RuntimeError("no slice")
        return 1.0

    executor = LocalExecutor(score)
    shallow, deep = Subnet(128, (2, 2), (1.5, 1.5)), Subnet(128, (2, 2, 2), (1.5,) * 3)
    made = [outcome for chunk in executor.run([shallow, deep, shallow]) for outcome in chunk]
    assert [o.score for o in made] == [None, 1.0, None]
    assert made[0].error.startswith("RuntimeError: no slice")
    assert made[2].error == "RuntimeError: no slice"
    assert [o.score for chunk in executor.run([deep, deep]) for o in chunk] == [1.0, 1.0]


def test_a_score_of_lists_is_not_mistaken_for_one_of_subnets():
    calls = []

    def score(subnets):
        calls.append(subnets)
        if len(calls) < 4:  # the first batch, and its first subnet, with both ways of calling
            raise RuntimeError("out of memory")
        return [float(len(subnets))] * len(subnets)

    results = outcomes(score)
    assert [o.error for o in results] == ["RuntimeError: out of memory", None, None, None]
    assert [o.score for o in results[1:]] == [1.0] * 3


def test_an_interrupt_is_never_caught():
    def score(subnets):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outcomes(score)


def test_nothing_to_score_calls_nothing():
    assert list(LocalExecutor(lambda subnets: pytest.fail("called")).run([])) == []
