"""The searchers by name; a new one is a file beside these and a line here, and the contract tests pick it up."""

from __future__ import annotations

from importlib import import_module

from nas.searchers.base import Searcher
from search_spaces import NasError

__all__ = ["SEARCHERS", "Searcher", "get_searcher"]

SEARCHERS: dict[str, str] = {
    "exact": "nas.searchers.exact:ExactSearcher",
    "random": "nas.searchers.random:RandomSearcher",
    "evolution": "nas.searchers.evolution:EvolutionSearcher",
    "nsga2": "nas.searchers.nsga2:Nsga2Searcher",
    "local": "nas.searchers.local:LocalSearcher",
    "optuna-tpe": "nas.searchers.optuna_samplers:TPESearcher",
    "optuna-nsga2": "nas.searchers.optuna_samplers:NSGAIISearcher",
    "optuna-nsga3": "nas.searchers.optuna_samplers:NSGAIIISearcher",
    "optuna-gp": "nas.searchers.optuna_samplers:GPSearcher",
    "optuna-random": "nas.searchers.optuna_samplers:OptunaRandomSearcher",
}


def get_searcher(name: str) -> type[Searcher]:
    """The class of the named searcher; raises `NasError` listing the known ones, or telling what to install."""
    if not isinstance(name, str) or name not in SEARCHERS:
        raise NasError(f"unknown searcher '{name}'; known: {', '.join(SEARCHERS)}")
    module, attribute = SEARCHERS[name].split(":")
    try:
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise NasError(f"searcher '{name}' needs optuna: pip install 'lighthubert-nas[optuna]'") from None
