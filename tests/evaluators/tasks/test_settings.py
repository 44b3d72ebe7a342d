"""How heads and subnets are trained."""

import pytest

from evaluators.tasks.settings import FitSettings
from search_spaces import NasError


@pytest.mark.parametrize("wrong", [{"learning_rates": ()}, {"learning_rates": (0.0,)}, {"seeds": 0}, {"batch": 0}])
def test_recipes_that_cannot_be_followed(wrong):
    with pytest.raises(NasError):
        FitSettings(**wrong)
