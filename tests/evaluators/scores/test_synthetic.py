"""The made-up score by name."""

import pytest

from evaluators.scores.context import ScoreContext
from evaluators.scores.synthetic import make_synthetic
from search_spaces import NasError, get_space
from search_spaces.synthetic import SyntheticScore


class Model:
    space = get_space("hubert-tiny")


def test_the_argument_is_the_seed():
    context, subnets = ScoreContext(Model()), [Model.space.smallest]
    assert make_synthetic(context, "7")(subnets) == SyntheticScore(Model.space, seed=7)(subnets)
    assert make_synthetic(context, None).seed == 0
    for argument in ("x", "-1", "1.5"):
        with pytest.raises(NasError, match="is a seed"):
            make_synthetic(context, argument)
