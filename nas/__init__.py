"""The search for the best subnet within a budget.

loop.py       search(): ask, evaluate, tell
budget.py     Budget: a hard limit on one cost
objective.py  Objective: a score, or a score against a cost
pareto.py     non-dominated sets and hypervolume
ledger.py     Evaluation, and the append-only file of them
run.py        the run folder and its lock
searchers/    SEARCHERS: propose subnets
executors/    score subnets in this process, or on a Ray cluster
sweep.py      a grid of searches as trials of Ray Tune
storage.py    run folders at URLs
status.py     how far a run is
score_model.py  the score as a sum over layers, learned; solved exactly
trust.py      how far a run can be trusted
verify.py     budgets on predicted costs, checked again on what is shipped
report.py     what a run found, for a terminal or as JSON
html_report.py, figures.py  the same as one self-contained page, and as PNG files
"""

from nas.loop import SearchResult, search
from nas.objective import Objective
from nas.pareto import hypervolume
from nas.runs.folder import RunFolder
from nas.runs.ledger import Evaluation, Ledger
from nas.searchers import SEARCHERS, Searcher, get_searcher
from search_spaces.budget import Budget

__all__ = [
    "Budget",
    "Evaluation",
    "Ledger",
    "Objective",
    "RunFolder",
    "SEARCHERS",
    "SearchResult",
    "Searcher",
    "get_searcher",
    "hypervolume",
    "search",
]
