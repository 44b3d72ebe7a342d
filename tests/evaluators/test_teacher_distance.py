"""The distillation score: shared first layers change nothing, and some speech is set apart."""

import numpy as np
import pytest

from evaluators import scores
from supernet import load_supernet


@pytest.fixture(scope="module")
def score():
    found = scores.distillation(load_supernet("hubert-tiny"))
    found._batches = found._batches[:1]
    return found


def test_subnets_scored_together_get_what_they_get_alone(score):
    space = score.model.space
    rng = np.random.default_rng(0)
    first = space.sample(rng)
    subnets = [first, *(space.mutate(first, rng, 0.1) for _ in range(5)), space.largest, space.smallest, first]
    assert score(subnets) == [score([subnet])[0] for subnet in subnets]


def test_one_utterance_in_four_is_set_apart(score):
    held_out = score.held_out
    assert held_out.held_out is None
    assert held_out.seconds == pytest.approx(score.seconds / 3, rel=0.3)
    largest, smallest = held_out([score.model.space.largest, score.model.space.smallest])
    assert largest < smallest
