"""Every searcher in SEARCHERS passes the contract that ships."""

import pytest

from nas import SEARCHERS
from nas.loop import search
from nas.testing.searchers import BUDGET, PARAMS, SCORE, SPACE, SearcherContract
from search_spaces import NasError

SLOW = {"optuna-gp": 12}  # up to half a second a proposal: two beyond its initial design of 10


def contract(name):
    attributes = {"searcher": name, "max_evals": SLOW.get(name), "ends_early": name == "exact"}
    return type(f"Test_{name.replace('-', '_')}", (SearcherContract,), attributes)


globals().update({made.__name__: made for made in map(contract, SEARCHERS)})


@pytest.mark.parametrize("searcher", list(SEARCHERS))
def test_the_name_of_the_searcher_is_checked(searcher):
    with pytest.raises(NasError, match=f"unknown searcher '{searcher}x'; known: {', '.join(SEARCHERS)}"):
        search(SPACE, SCORE, {"params": PARAMS}, [f"params<={BUDGET}"], searcher + "x")
