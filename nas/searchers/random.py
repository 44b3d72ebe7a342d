"""Uniform random search under the budgets: the baseline, with nothing rejected."""

from __future__ import annotations

from nas.searchers.base import Searcher
from search_spaces import Subnet

__all__ = ["RandomSearcher"]


class RandomSearcher(Searcher):
    """Every subnet that keeps the budgets is as likely to be proposed next as any other that is left."""

    def ask(self, n: int) -> list[Subnet]:
        return self.draw(n)
