"""What scores are made from."""

import pytest

from evaluators.scores.context import ScoreContext, no_score, require_whole
from search_spaces import NasError


def test_scores_that_cannot_rule_out_refuse_to():
    require_whole(ScoreContext(None), "synthetic")
    with pytest.raises(NasError, match="successive evaluation is for the score distillation; got 'synthetic'"):
        require_whole(ScoreContext(None, successive=True), "synthetic")


def test_the_error_lists_the_known_scores():
    assert str(no_score("x", ["a", "b"])).endswith("known scores: a, b; got 'x'")
