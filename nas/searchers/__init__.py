"""The searchers by name; a new one is a file beside these and a line here, and the contract tests pick it up."""

from __future__ import annotations

from importlib import import_module

from nas.searchers.base import Searcher
from search_spaces import NasError

__all__ = ["SEARCHERS", "Searcher", "get_searcher"]

SEARCHERS: dict[str, str] = {
    "random": "nas.searchers.random:RandomSearcher",
    "evolution": "nas.searchers.evolution:EvolutionSearcher",
}


def get_searcher(name: str) -> type[Searcher]:
    """The class of the named searcher; raises `NasError` listing the known ones."""
    if not isinstance(name, str) or name not in SEARCHERS:
        raise NasError(f"unknown searcher '{name}'; known: {', '.join(SEARCHERS)}")
    module, attribute = SEARCHERS[name].split(":")
    return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
