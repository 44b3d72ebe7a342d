"""The search loop: ask the searcher, evaluate, write the ledger, tell the searcher.

Every fourth evaluation is of a uniform subnet that may be the best of its kind, as long as there are some (at most 32):
the winner is never worse than these, the gain of freedom is known, and the searcher learns from them.

Costs are an `AdditiveTable`, an `AdditiveCost` or a plain `Cost`; what budgets and objectives name beside those of the
caller is looked up in `COSTS`, as far as a space alone determines it. Budgets on tables are kept by construction. A
plain cost is measured for each proposal, which is not scored if it is over. On a `PredictedCost` the best candidates
are measured again at the end, and the first that keeps its budgets is the best (see `nas.verify`).

A score says which direction is better by its attribute `higher_is_better` (default: True). A `SuccessiveScore` may rule
subnets out early: such a subnet is "ruled out", and its score an estimate that only the searcher learns from. Where a
score raises or gives NaN, the evaluation is "failed", and the search goes on.

An interruption can lose no more than one batch. The ledger of an asynchronous run is in the order of completion, which
no seed repeats. The evaluations of a warm start come first in the ledger, with their origin, and beside `evals`.

A search raises `InfeasibleError` before the first evaluation if no subnet keeps the budgets; `NothingScored` if no
evaluation has a score, and `CheckFailed` if no candidate keeps its budgets when measured again, both with the run kept;
`RunError` for a folder that cannot be used; `NasError` for other mistakes in the arguments.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast

import numpy as np
from rich.console import Console

from nas.evaluate import SubnetEvaluator, utc_now
from nas.executors import Concurrent, Executor, LocalExecutor
from nas.extras import extra_module
from nas.holdout import held_out_finalists, summed_up_finalists
from nas.objective import best_and_front, hypervolume_of
from nas.problem import Problem, Score, SubnetScore
from nas.progress import Callback, SearchProgress, StopSearch
from nas.result import SearchResult, refuse_failures
from nas.runs.folder import RunFolder, read_settings, summed_up
from nas.runs.ledger import Evaluation, Ledger
from nas.searchers import Searcher, get_searcher
from nas.trust import assess
from nas.uniform import WithUniform
from nas.verify import missed, verify
from search_spaces import AdditiveTable, Budget, CheckFailed, Cost, HasSpace, NasError, RunError, Space
from search_spaces.types import JsonMapping, JsonObject

if TYPE_CHECKING:
    import optuna

__all__ = ["search"]


def search(
    space: Space | HasSpace | str | os.PathLike[str],
    score: Score | SubnetScore,
    costs: Mapping[str, Cost | AdditiveTable] | None = None,
    budgets: Sequence[str | Budget] = (),
    searcher: str = "exact",
    evals: int = 64,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    batch: int = 16,
    objectives: Sequence[str] = ("score",),
    callbacks: Sequence[Callback] = (),
    settings: Mapping[str, object] | None = None,
    executor: Executor | None = None,
    asynchronous: bool = False,
    uniform: bool = False,
    holdout: bool = False,
    progress: bool = False,
    warm_start: optuna.Study | None = None,
) -> SearchResult:
    """The best subnet of `space` by `score` within `budgets`, from `evals` evaluations; more in `nas.loop`.

    >>> result = nas.search("hubert-tiny", lambda subnet: sum(subnet.heads), budgets=("params<=2.5M",), evals=32)

    Args:
        space: a Space, its name, a .toml file, or a supernet.
        score: a function of a list of subnets (one number for each), or of one subnet.
        costs: by name; params, macs and memory_bytes are known without.
        budgets: hard limits such as 'params<=27M'.
        out: folder of the run; `resume` continues the one in it. The same seed gives the same run, interrupted or not.
        batch: subnets asked for and scored at a time.
        objectives: ("score",), or ("score", a cost) for a Pareto front.
        callbacks: called with all evaluations so far, after each chunk; `nas.StopSearch` ends the search.
        settings: kept in run.json unchanged.
        executor: calls `score`, here or on a cluster (`nas.executors.ray.RayExecutor`); the result is the same.
        asynchronous: for executors with many evaluators: new subnets are asked for as others are finished.
        uniform: only subnets that are alike in all layers.
        holdout: the best is the best of the last candidates on speech that the score sets apart (`nas.holdout`).
        progress: shows a progress bar, in terminals and notebooks.
        warm_start: an Optuna study over the choices of the space, whose trials are known beforehand (`nas.study`).
    """
    plan = _Plan(searcher, evals, seed, batch, asynchronous, holdout)
    plan.check(resume, out, executor, callbacks, warm_start is not None)
    problem = Problem.of(space, score, costs, budgets, objectives, uniform)
    plan.check_with(problem)
    evaluator = SubnetEvaluator(problem, executor or LocalExecutor(score))
    known = [] if warm_start is None else evaluator.imported(_trials(warm_start, problem))
    plan = replace(plan, evals=evals + (_count_started_with(read_settings(str(out))) if resume else len(known)))
    with ExitStack() as stack:
        about = _described(problem, plan, settings or {}, known, warm_start)
        run = None if out is None else stack.enter_context(RunFolder(out, about, resume))
        bar = [stack.enter_context(_bar(problem, plan))] if progress else []
        result = _search(evaluator, plan, run or about, known, [*bar, *callbacks])
    refuse_failures(result)
    return result


def _search(
    evaluator: SubnetEvaluator,
    plan: _Plan,
    run: RunFolder | JsonObject,
    known: Sequence[Evaluation],
    callbacks: Sequence[Callback],
) -> SearchResult:
    """The search of a checked problem, in an open run folder or, if it is only described, in memory."""
    problem, settings = evaluator.problem, run.settings if isinstance(run, RunFolder) else run
    ledger = run.ledger if isinstance(run, RunFolder) else Ledger()
    if known:
        ledger.append(known)
    first = _count_known(ledger, settings)
    # a replay needs the same draws again; asynchronous runs are not replayed
    entropy = [plan.seed, len(ledger.evaluations)] if plan.asynchronous else plan.seed
    make = get_searcher(plan.searcher)
    own = make(problem.feasible, problem.objective, np.random.default_rng(entropy), settings["planned_evals"])
    proposer = WithUniform(own)
    chunks = _chunks_as_completed if plan.asynchronous else _chunks
    try:
        for _ in chunks(proposer, ledger, evaluator, plan.batch, first, plan.evals):
            for callback in callbacks:
                callback(ledger.evaluations)
    except StopSearch:
        pass
    except KeyboardInterrupt:
        _finish_interrupted(problem, ledger, run)
        raise
    return _finish(problem, plan, proposer, ledger, run)


def _bar(problem: Problem, plan: _Plan) -> SearchProgress:
    bar = SearchProgress(plan.evals, Console(stderr=True))
    bar.maximize = problem.objective.maximize
    return bar


# -------------------------------------------------------------------- what is known beforehand


def _trials(study: optuna.Study, problem: Problem) -> list[Evaluation]:
    """The evaluations in a study, without costs."""
    module = extra_module("nas.study", "warm_start", "optuna", package="optuna")
    return cast("list[Evaluation]", module.evaluations_of(study, problem.space, problem.objective.maximize))


def _count_started_with(settings: JsonMapping) -> int:
    """How many evaluations a run was started with, by its run.json."""
    return int(settings.get("warm_start", {"evaluations": 0})["evaluations"])


def _count_known(ledger: Ledger, settings: JsonMapping) -> int:
    """How many evaluations of the ledger, its first ones, were known beforehand."""
    count = sum(evaluation.origin is not None for evaluation in ledger.evaluations)
    wanted = _count_started_with(settings)
    if count != wanted:
        raise RunError(f"{ledger.path} holds {count} of {wanted} evaluations of the warm start: start another run")
    return count


# -------------------------------------------------------------------- the plan


@dataclass(frozen=True)
class _Plan:
    """How the problem is searched."""

    searcher: str
    evals: int
    seed: int
    batch: int
    asynchronous: bool
    holdout: bool = False

    def check(self, resume: bool, out: object, executor: Executor | None, callbacks: object, warm: bool) -> None:
        """Raises `NasError` for arguments that make no search."""
        for name, value, least in (("evals", self.evals, 0), ("seed", self.seed, 0), ("batch", self.batch, 1)):
            if type(value) is not int or value < least:
                raise NasError(f"{name} must be a whole number, {least} or more; got {value!r}")
        if resume and out is None:
            raise NasError("resume=True needs out: the folder of the run to continue")
        if not isinstance(callbacks, (tuple, list)) or not all(map(callable, callbacks)):
            raise NasError(f"callbacks must be a list of functions of all evaluations so far; got {callbacks!r:.80}")
        if resume and warm:
            raise NasError("resume=True continues with what the run was started with: leave warm_start out")
        get_searcher(self.searcher)  # raises for an unknown one before a folder is made
        if self.asynchronous and not isinstance(executor, Concurrent):
            raise NasError("asynchronous=True needs an executor of many evaluators: nas.executors.ray.RayExecutor")

    def check_with(self, problem: Problem) -> None:
        """Raises `NasError` for a plan that the problem does not allow."""
        if self.holdout and problem.held_out is None:
            raise NasError(f"holdout=True needs a score with speech set apart; {problem.info.name} has none")


def _described(
    problem: Problem,
    plan: _Plan,
    settings: Mapping[str, object],
    known: Sequence[Evaluation],
    warm_start: optuna.Study | None,
) -> JsonObject:
    """The contents of run.json at the start."""
    warm = {} if warm_start is None else {"study": warm_start.study_name, "evaluations": len(known)}
    return {
        "space": problem.space.to_dict(),
        "searcher": plan.searcher,
        "budgets": [str(budget) for budget in problem.budgets],
        "objectives": list(problem.objective.names),
        "maximize": problem.objective.maximize,
        "costs": list(problem.costs.names),
        "score": problem.info.to_dict(),
        "seed": plan.seed,
        "batch": plan.batch,
        "asynchronous": plan.asynchronous,
        **({"only_uniform": True} if problem.feasible.uniform else {}),
        **({"held_out_winner": True} if plan.holdout else {}),
        **({"warm_start": warm} if warm else {}),
        "evals": plan.evals,
        "planned_evals": plan.evals,
        "front_cost": problem.front_cost,
        "space_size": problem.space.size,
        "space_fits": problem.feasible.count(),
        "settings": dict(settings),
        "versions": _versions(),
        "command": " ".join(sys.argv),
        "started": utc_now(),
    }


def _versions() -> dict[str, str]:
    try:
        own = version("lighthubert-nas")
    except PackageNotFoundError:
        own = "unknown"
    return {"lighthubert-nas": own, "python": platform.python_version(), "numpy": np.__version__}


# -------------------------------------------------------------------- ask, evaluate, tell


def _chunks(
    searcher: Searcher, ledger: Ledger, evaluator: SubnetEvaluator, batch: int, known: int, evals: int
) -> Iterator[Sequence[Evaluation]]:
    """Runs the search; yields each chunk of new evaluations once it is in the ledger.

    The searcher starts from the first `known` evaluations. The others that the ledger holds at the start are replayed:
    reported to the searcher instead of made again, after a check that the searcher asks for them again. It is always
    asked for whole batches, so that a resumed run may raise `evals`.
    """
    held, done = list(ledger.evaluations), known
    searcher.start_from(held[:known])
    while done < evals and (asked := searcher.ask(batch)):
        asked = asked[: evals - done]
        replayed = held[done : done + len(asked)]
        for subnet, evaluation in zip(asked, replayed):
            evaluator.check_replay(subnet, evaluation)
        for chunk in evaluator.run(asked[len(replayed) :], done + len(replayed), ledger.evaluations[:done]):
            ledger.append(chunk)
            yield chunk
        searcher.tell(ledger.evaluations[done : done + len(asked)])
        done += len(asked)
    if done < len(held):
        raise RunError(f"the ledger holds {len(held)} evaluations, but this search ends after {done}: settings changed")


def _chunks_as_completed(
    searcher: Searcher, ledger: Ledger, evaluator: SubnetEvaluator, batch: int, known: int, evals: int
) -> Iterator[Sequence[Evaluation]]:
    """Runs the search with `batch` subnets under way at any time; yields each chunk once it is in the ledger.

    Nothing is replayed on resume: the searcher starts from all that the ledger holds.
    """
    searcher.start_from(ledger.evaluations[:])
    while True:
        done, under_way = len(ledger.evaluations), evaluator.under_way
        room = min(batch, evals - done) - under_way
        if room > 0 and (room >= batch // 4 or not under_way):
            evaluator.submit(searcher.ask(room), ledger.evaluations)
        if not evaluator.under_way:
            return
        if chunk := evaluator.finished(done):
            ledger.append(chunk)
            yield chunk
            searcher.tell(chunk)


# -------------------------------------------------------------------- the end


def _finish(
    problem: Problem, plan: _Plan, searcher: WithUniform, ledger: Ledger, run: RunFolder | JsonObject
) -> SearchResult:
    """Verifies the best candidates, assesses the run and writes it. Raises `CheckFailed` if no candidate holds."""
    evaluations, objective = ledger.evaluations, problem.objective
    uniform = objective.best([e for e in evaluations if e.subnet.uniform])
    best, front = best_and_front(evaluations, objective, problem.front_cost)
    candidates, holdout = evaluations, None
    if plan.holdout and problem.held_out is not None:
        candidates = held_out_finalists(evaluations, objective, problem.held_out)
        holdout = summed_up_finalists(candidates, evaluations, str(getattr(problem.held_out, "source", "other speech")))
        best = evaluations[holdout["winner"]] if holdout else best
    verification = verify(candidates, objective, problem.budgets, problem.costs.predicted)
    if verification:
        winner = verification["winner"]
        best = None if winner is None else evaluations[winner]
    results = {"verification": verification, "uniform": summed_up(uniform)}
    results |= {"holdout": holdout} if plan.holdout else {}
    if isinstance(run, RunFolder):
        own = searcher.searcher
        proposals = {"repeated": own.repeated, "repaired": own.repaired}
        trust = assess(evaluations, objective, problem.feasible, problem.held_out, proposals)
        volume = hypervolume_of(evaluations, objective, problem.front_cost, problem.budgets)
        run.finish(best, front, {"hypervolume": volume, **results, **trust})
    if verification and best is None:
        raise CheckFailed(missed(verification))
    folder, settings = (run.path, run.settings) if isinstance(run, RunFolder) else (None, {**run, **results})
    return SearchResult(best, front, list(evaluations), folder, verification, uniform, settings)


def _finish_interrupted(problem: Problem, ledger: Ledger, run: RunFolder | JsonObject) -> None:
    """Writes the best and the front so far."""
    if isinstance(run, RunFolder):
        evaluations, objective = ledger.evaluations, problem.objective
        best, front = best_and_front(evaluations, objective, problem.front_cost)
        volume = hypervolume_of(evaluations, objective, problem.front_cost, problem.budgets)
        run.finish(best, front, {"hypervolume": volume, "verification": None})
