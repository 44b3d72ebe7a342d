"""The search loop: ask the searcher, evaluate, write the ledger, tell the searcher."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from nas.evaluate import SubnetEvaluator, utc_now
from nas.executors import Concurrent, Executor, LocalExecutor
from nas.holdout import held_out_finalists, summed_up_finalists
from nas.objective import best_and_front, hypervolume_of
from nas.problem import Problem, Score
from nas.runs.folder import RunFolder, summed_up
from nas.runs.ledger import Evaluation, Ledger
from nas.searchers import Searcher, get_searcher
from nas.trust import assess
from nas.uniform import WithUniform
from nas.verify import missed, verify
from search_spaces import AdditiveTable, Budget, CheckFailed, Cost, NasError, RunError, Space

__all__ = ["SearchResult", "search"]

Progress = Callable[[Sequence[Evaluation]], None]


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    `best` has the best score within the budgets (None if nothing could be scored). `front` is the score against the
    objective's cost or, with the score alone as objective, against the first budget's. `uniform` is the best of the
    subnets that are alike in all layers (None if none fits).
    `verification` holds what `nas.verify` measured, if a budget is on a predicted cost.
    """

    best: Evaluation | None
    front: list[Evaluation]
    evaluations: list[Evaluation]
    folder: Path | None = None
    verification: Mapping[str, object] | None = None
    uniform: Evaluation | None = None


def search(
    space: Space,
    score: Score,
    costs: Mapping[str, Cost | AdditiveTable] | None = None,
    budgets: Sequence[str | Budget] = (),
    searcher: str = "exact",
    evals: int = 64,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    batch: int = 16,
    objectives: Sequence[str] = ("score",),
    on_progress: Progress | None = None,
    settings: Mapping[str, object] | None = None,
    executor: Executor | None = None,
    asynchronous: bool = False,
    uniform: bool = False,
    holdout: bool = False,
) -> SearchResult:
    """The best subnet of `space` by `score` within `budgets`, from `evals` evaluations.

    Every fourth of them is of a uniform subnet that may be the best of its kind, as long as there are some (at most
    32), so that the winner is never worse than these and the gain of freedom is known; the searcher learns from them.

    Args:
        score: a function from a list of subnets to one number for each; greater is better unless its attribute
            `higher_is_better` is False. A `SuccessiveScore` may rule subnets out early: such a subnet is "ruled out",
            and its score an estimate that only the searcher learns from.
        costs: by name. Budgets on an `AdditiveTable` or `AdditiveCost` are kept by construction; a plain `Cost` is
            measured for each proposal, which is not scored if it is over. The best candidates are measured again at the
            end on a `PredictedCost`, and the first that keeps its budgets is the best (see `nas.verify`).
        budgets: hard limits such as 'params<=27M'.
        out: folder of the run (see `nas.runs`); `resume` continues the one in it. The same seed gives the same run,
            interrupted or not.
        batch: subnets asked for and scored at a time; an interruption can lose no more.
        objectives: ("score",), or ("score", a cost) for a Pareto front.
        on_progress: called with all evaluations so far, after each chunk.
        settings: kept in run.json unchanged.
        executor: calls `score`, here or on a cluster (`nas.executors.ray.RayExecutor`); the result is the same.
        asynchronous: for executors with many evaluators: new subnets are asked for as others are finished, up to
            `batch` at a time. The ledger is then in the order of completion, which no seed repeats.
        uniform: only subnets that are alike in all layers.
        holdout: the best is the best of the last candidates on speech that the score sets apart (see `nas.holdout`).

    Raises:
        InfeasibleError: before the first evaluation, if no subnet keeps the budgets.
        CheckFailed: if no candidate keeps them when measured again; the run is kept.
        RunError: for a folder that cannot be used.
        NasError: for other mistakes in the arguments.

    Where the score raises or gives NaN, the evaluation is "failed", and the search goes on.
    """
    plan = _Plan(searcher, evals, seed, batch, asynchronous, holdout)
    plan.check(resume, out, executor)
    problem = Problem.of(space, score, costs or {}, budgets, objectives, uniform)
    plan.check_with(problem)
    with ExitStack() as stack:
        about = _described(problem, plan, settings or {})
        run = None if out is None else stack.enter_context(RunFolder(out, about, resume))
        return _search(problem, plan, run, executor or LocalExecutor(score), on_progress)


def _search(
    problem: Problem, plan: _Plan, run: RunFolder | None, executor: Executor, on_progress: Progress | None
) -> SearchResult:
    """The search of a checked problem, in an open run folder or in memory."""
    ledger = run.ledger if run else Ledger()
    planned = run.settings["planned_evals"] if run else plan.evals
    # a replay needs the same draws again; asynchronous runs are not replayed
    entropy = [plan.seed, len(ledger.evaluations)] if plan.asynchronous else plan.seed
    make = get_searcher(plan.searcher)
    own = make(problem.feasible, problem.objective, np.random.default_rng(entropy), planned)
    proposer = WithUniform(own)
    evaluator = SubnetEvaluator(problem, executor)
    chunks = _chunks_as_completed if plan.asynchronous else _chunks
    try:
        for _ in chunks(proposer, ledger, evaluator, plan.batch, plan.evals):
            if on_progress:
                on_progress(ledger.evaluations)
    except KeyboardInterrupt:
        _finish_interrupted(problem, ledger, run)
        raise
    return _finish(problem, plan, proposer, ledger, run)


@dataclass(frozen=True)
class _Plan:
    """How the problem is searched."""

    searcher: str
    evals: int
    seed: int
    batch: int
    asynchronous: bool
    holdout: bool = False

    def check(self, resume: bool, out: object, executor: Executor | None) -> None:
        """Raises `NasError` for arguments that make no search."""
        for name, value, least in (("evals", self.evals, 0), ("seed", self.seed, 0), ("batch", self.batch, 1)):
            if type(value) is not int or value < least:
                raise NasError(f"{name} must be a whole number, {least} or more; got {value!r}")
        if resume and out is None:
            raise NasError("resume=True needs out: the folder of the run to continue")
        get_searcher(self.searcher)  # raises for an unknown one before a folder is made
        if self.asynchronous and not isinstance(executor, Concurrent):
            raise NasError("asynchronous=True needs an executor of many evaluators: nas.executors.ray.RayExecutor")

    def check_with(self, problem: Problem) -> None:
        """Raises `NasError` for a plan that the problem does not allow."""
        if self.holdout and problem.held_out is None:
            raise NasError(f"holdout=True needs a score with speech set apart; {problem.info.name} has none")


def _described(problem: Problem, plan: _Plan, settings: Mapping[str, object]) -> dict[str, object]:
    """The contents of run.json at the start."""
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
    searcher: Searcher, ledger: Ledger, evaluator: SubnetEvaluator, batch: int, evals: int
) -> Iterator[Sequence[Evaluation]]:
    """Runs the search; yields each chunk of new evaluations once it is in the ledger.

    Evaluations that the ledger held at the start are replayed: reported to the searcher instead of made again, after a
    check that the searcher asks for them again. It is always asked for whole batches, so that a resumed run may raise
    `evals`.
    """
    held, done = list(ledger.evaluations), 0
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
    searcher: Searcher, ledger: Ledger, evaluator: SubnetEvaluator, batch: int, evals: int
) -> Iterator[Sequence[Evaluation]]:
    """Runs the search with `batch` subnets under way at any time; yields each chunk once it is in the ledger.

    Nothing is replayed on resume: the searcher learns from the ledger, and continues from there.
    """
    for held in ledger.evaluations:
        searcher.take(held.subnet)
    searcher.tell(ledger.evaluations[:])
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
    problem: Problem, plan: _Plan, searcher: WithUniform, ledger: Ledger, run: RunFolder | None
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
    if run:
        own = searcher.searcher
        proposals = {"repeated": own.repeated, "repaired": own.repaired}
        trust = assess(evaluations, objective, problem.feasible, problem.held_out, proposals)
        volume = hypervolume_of(evaluations, objective, problem.front_cost, problem.budgets)
        results = {"hypervolume": volume, "verification": verification, "uniform": summed_up(uniform)}
        run.finish(best, front, {**results, **({"holdout": holdout} if plan.holdout else {}), **trust})
    if verification and best is None:
        raise CheckFailed(missed(verification))
    return SearchResult(best, front, list(evaluations), run.path if run else None, verification, uniform)


def _finish_interrupted(problem: Problem, ledger: Ledger, run: RunFolder | None) -> None:
    """Writes the best and the front so far."""
    if run:
        evaluations, objective = ledger.evaluations, problem.objective
        best, front = best_and_front(evaluations, objective, problem.front_cost)
        volume = hypervolume_of(evaluations, objective, problem.front_cost, problem.budgets)
        run.finish(best, front, {"hypervolume": volume, "verification": None})
