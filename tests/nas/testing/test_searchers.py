"""The contract of searchers finds what is broken."""

import pytest

from nas.searchers import random as module
from nas.searchers.random import RandomSearcher
from nas.testing.searchers import SearcherContract


class Contract(SearcherContract):
    __test__ = False
    searcher = "random"


def broken(monkeypatch, **methods):
    monkeypatch.setattr(module, "RandomSearcher", type("Broken", (RandomSearcher,), methods))
    return Contract()


def test_a_searcher_that_repeats_itself_is_found(monkeypatch):
    contract = broken(monkeypatch, ask=lambda self, n: [self.space.smallest] * n)
    with pytest.raises(Exception, match="proposed twice"):
        contract.test_nothing_infeasible_and_nothing_twice(("score",), 7)


def test_a_searcher_that_breaks_the_budget_is_found(monkeypatch):
    contract = broken(monkeypatch, ask=lambda self, n: [s for s in [self.space.largest] if self.take(s)])
    with pytest.raises(AssertionError):
        contract.test_nothing_infeasible_and_nothing_twice(("score",), 7)


def test_a_searcher_with_hidden_randomness_is_found(monkeypatch, tmp_path):
    import numpy as np

    def ask(self, n):
        self.rng = np.random.default_rng()
        return self.draw(n)

    contract = broken(monkeypatch, ask=ask)
    with pytest.raises(AssertionError):
        contract.test_the_same_seed_gives_the_same_run_and_another_seed_another(("score",))


def test_a_sound_searcher_passes(tmp_path):
    contract = Contract()
    contract.test_nothing_infeasible_and_nothing_twice(("score",), 7)
    contract.test_a_resumed_run_equals_the_undisturbed_one(("score",), 8, tmp_path)
