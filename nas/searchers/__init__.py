"""The searchers by name; a new one is a file beside these and a line here, and the contract tests pick it up."""

from __future__ import annotations

from typing import cast

from nas.searchers.base import Searcher
from search_spaces.registry import Registry

__all__ = ["SEARCHERS", "Searcher", "get_searcher"]

SEARCHERS = Registry(
    "searcher",
    "lighthubert_nas.searchers",
    {
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
    },
    {"optuna": "optuna"},
)


def get_searcher(name: str) -> type[Searcher]:
    """The class of the named searcher; raises `NasError` listing the known ones, or naming what to install."""
    return cast(type[Searcher], SEARCHERS.load(name))
