from __future__ import annotations

import pytest

from nas.executors import LocalExecutor
from nas.testing.worlds import Counting, tiny_space
from search_spaces import NasError

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


def test_an_interrupt_is_never_caught():
    def score(subnets):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outcomes(score)


def test_nothing_to_score_calls_nothing():
    assert list(LocalExecutor(lambda subnets: pytest.fail("called")).run([])) == []
