"""The search for the best subnet within a budget.

loop.py       search(): ask, evaluate, tell
result.py     SearchResult: for Python, notebooks, pandas, plotly and Optuna
progress.py   callbacks, the progress bar, StopSearch
problem.py    a space, a score, costs with budgets, the objective; checked
objective.py  Objective: a score, or a score against a cost
pareto.py     non-dominated sets and hypervolume
study.py      runs as Optuna studies, and back
runs/         Evaluation, the ledger, the run folder and its lock, run folders at URLs
searchers/    SEARCHERS: propose subnets
executors/    score subnets in this process, or on a Ray cluster
cluster/      a grid of searches as trials of Ray Tune
score_model.py  the score as a sum over layers, learned; solved exactly
warp.py         the scale on which it is one
trust.py      how far a run can be trusted
verify.py     budgets on predicted costs, checked again on what is shipped
report/       what a run found, for a terminal, as JSON, as one self-contained page, and as PNG files
"""

from nas.loop import search
from nas.objective import Objective
from nas.pareto import hypervolume
from nas.progress import StopSearch
from nas.result import NothingScored, SearchResult
from nas.runs.folder import RunFolder
from nas.runs.ledger import Evaluation, Ledger
from nas.searchers import SEARCHERS, Searcher, get_searcher
from search_spaces.budget import Budget

__all__ = [
    "Budget",
    "Evaluation",
    "Ledger",
    "NothingScored",
    "Objective",
    "RunFolder",
    "SEARCHERS",
    "SearchResult",
    "Searcher",
    "StopSearch",
    "get_searcher",
    "hypervolume",
    "search",
]
