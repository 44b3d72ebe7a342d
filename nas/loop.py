"""The search: ask the searcher, evaluate, write the ledger, tell the searcher; until the evaluations are spent."""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np

from nas import pareto
from nas.executors import Concurrent, Executor, LocalExecutor, Outcome
from nas.executors.local import told_in_one_line
from nas.objective import Objective
from nas.runs.folder import RunFolder
from nas.runs.ledger import Evaluation, Ledger
from nas.searchers import Searcher, get_searcher
from nas.trust import assess
from nas.verify import missed, verify
from search_spaces import AdditiveTable, CheckFailed, Feasible, NasError, RunError, Space, SpaceError, Subnet
from search_spaces.budget import Budget

__all__ = ["SearchResult", "search"]

Number = int | float
Score = Callable[[list[Subnet]], Sequence[Any]]
Progress = Callable[[Sequence[Evaluation]], None]


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    `best` has the best score within the budgets (None if nothing could be scored). `front` is the score against the
    objective's cost or, with the score alone as objective, against the first budget's: what less would have bought.
    `verification` is what `nas.verify` measured of the best, where a budget is on a predicted cost.
    """

    best: Evaluation | None
    front: list[Evaluation]
    evaluations: list[Evaluation]
    folder: Path | None = None
    verification: Mapping[str, Any] | None = None


def search(
    space: Space,
    score: Score,
    costs: Mapping[str, Any] | None = None,
    budgets: Sequence[str | Budget] = (),
    searcher: str = "exact",
    evals: int = 64,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    batch: int = 16,
    objectives: Sequence[str] = ("score",),
    on_progress: Progress | None = None,
    settings: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    asynchronous: bool = False,
) -> SearchResult:
    """The best subnet of `space` by `score` within `budgets`, from `evals` evaluations.

    `score` takes a list of subnets and returns one number for each; greater is better unless its attribute
    `higher_is_better` is False. `costs` maps a name to an `AdditiveTable`, to something with `.table` and
    `.of(subnet)`, or, where the cost can only be measured, to something with `.of(subnet)` alone. Budgets on the
    first two are kept by construction; on the last, each proposal is measured, and is not scored if it is over.
    A cost whose table is a prediction has `.verify` too: the best candidates are measured again at the end, and the
    first that keeps its budgets is the best (see `nas.verify`).

    `out` is a folder for the run (see `nas.runs`), `resume` continues the one in it. The same seed gives the same
    run, interrupted or not. `batch` subnets are asked for and scored at a time, and are what an interruption can cost.
    `on_progress` is called with all evaluations so far, after each chunk. `settings` is kept in run.json as it is.

    A score that has `against` (see `evaluators.base.Score`) is asked for less where a subnet is no rival to the best of
    the batches before: such a subnet is "ruled out", and its score an estimate that only the searcher learns from.

    `executor` is where `score` is called: in this process, or on a cluster (`nas.executors.ray.RayExecutor`). It does
    not change the run. What does is `asynchronous`, for such executors: new subnets are asked for as others are done,
    up to `batch` at a time, and the ledger is in the order of completion, which no seed repeats.

    Raises `InfeasibleError` before the first evaluation where no subnet keeps the budgets, `CheckFailed` where no
    candidate keeps them when measured again (the run is kept), `RunError` for a folder
    that cannot be used, and `NasError` for the rest of a user's mistakes. A score that raises, or gives NaN, for
    some subnets makes those evaluations "failed", and the search goes on.
    """
    for name, value, least in (("evals", evals, 0), ("seed", seed, 0), ("batch", batch, 1)):
        if type(value) is not int or value < least:
            raise NasError(f"{name} must be a whole number, {least} or more; got {value!r}")
    if resume and out is None:
        raise NasError("resume=True needs out: the folder of the run to continue")
    if not isinstance(space, Space):
        raise NasError(f"space must be a Space, as get_space() gives it; got {space!r}")
    if asynchronous and not hasattr(executor, "collect"):
        raise NasError("asynchronous=True needs an executor of many evaluators: nas.executors.ray.RayExecutor")
    if hasattr(score, "against") and len(objectives) > 1:
        raise NasError("successive evaluation is for the objective score alone: a front has no one best to rule out by")
    if not callable(score):
        raise NasError(f"score must be a function of a list of subnets; got {score!r}")
    known = _Costs(space, costs or {})
    limits = _budgets(budgets, known.names)
    feasible = known.feasible(limits)
    feasible.sample(np.random.default_rng(0))  # raises where nothing fits
    objective = Objective.parse(objectives, bool(getattr(score, "higher_is_better", True)), known.names, known.tables)
    front_cost = objective.cost or next((budget.cost for budget in limits), next(iter(known.names), None))
    make = get_searcher(searcher)
    described = {
        "space": space.to_dict(),
        "searcher": searcher,
        "budgets": [str(budget) for budget in limits],
        "objectives": list(objective.names),
        "maximize": objective.maximize,
        "costs": list(known.names),
        "score": _described(score),
        "seed": seed,
        "batch": batch,
        "asynchronous": asynchronous,
        "evals": evals,
        "planned_evals": evals,
        "front_cost": front_cost,
        "space_size": space.size,
        "space_fits": feasible.count(),
        "settings": dict(settings or {}),
        **_circumstances(),
    }
    with ExitStack() as stack:
        run = None if out is None else stack.enter_context(RunFolder(out, described, resume))
        ledger = run.ledger if run else Ledger()
        planned = run.settings["planned_evals"] if run else evals
        chance = [seed, len(ledger.evaluations)] if asynchronous else seed  # a replay needs the same chance again
        proposer = make(feasible, objective, np.random.default_rng(chance), planned)

        def result(interrupted: bool = False) -> SearchResult:
            best, front = chosen(ledger.evaluations, objective, front_cost)
            verification = None if interrupted else verify(ledger.evaluations, objective, limits, known.verifiers)
            if verification:
                winner = verification["winner"]
                best = None if winner is None else ledger.evaluations[winner]
            if run:
                found = {
                    "hypervolume": _hypervolume(ledger.evaluations, run.settings),
                    "verification": verification,
                }
                if not interrupted:
                    held_out = getattr(score, "held_out", None)
                    proposals = {"repeated": proposer.repeated, "repaired": proposer.repaired}
                    found |= assess(ledger.evaluations, objective, feasible, held_out, proposals)
                run.finish(best, front, found)
            if verification and best is None:
                raise CheckFailed(missed(verification))
            return SearchResult(best, front, list(ledger.evaluations), run.path if run else None, verification)

        rival = objective.best if hasattr(score, "against") else None
        evaluator = _Evaluator(executor or LocalExecutor(score), known, limits, rival)
        chunks = _chunks_as_completed if asynchronous else _chunks
        try:
            for _ in chunks(proposer, ledger, evaluator, batch, evals):
                if on_progress:
                    on_progress(ledger.evaluations)
        except KeyboardInterrupt:
            result(interrupted=True)
            raise
        return result()


def chosen(
    evaluations: Sequence[Evaluation], objective: Objective, front_cost: str | None
) -> tuple[Evaluation | None, list[Evaluation]]:
    """The best evaluation and the front; without any cost, the front is the best alone."""
    best = objective.best(evaluations)
    if front_cost is None:
        return best, [best] if best else []
    return best, pareto.front(evaluations, front_cost, objective.maximize)


def _hypervolume(evaluations: Sequence[Evaluation], settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the front is worth against its reference: the budget on its cost, or the dearest; and the worst score."""
    cost = settings["front_cost"]
    if cost is None or not any(e.ok for e in evaluations):
        return None
    maximize = settings["maximize"]
    points = [(float(e.costs[cost]), float(e.score)) for e in evaluations if e.ok and e.score is not None]
    budgets = [Budget.parse(text, settings["costs"]) for text in settings["budgets"]]
    dearest = min((float(b.limit) for b in budgets if b.cost == cost), default=max(value for value, _ in points))
    worst = (min if maximize else max)(score for _, score in points)
    costs, scores = zip(*points)
    value = pareto.hypervolume(costs, scores, (dearest, worst), maximize)
    return {"value": value, "reference": {"cost": dearest, "score": worst}}


def _chunks(
    searcher: Searcher, ledger: Ledger, evaluator: _Evaluator, batch: int, evals: int
) -> Iterator[Sequence[Evaluation]]:
    """Runs the search; yields each chunk of new evaluations once it is in the ledger.

    What the ledger held at the start is replayed: told instead of evaluated, after a check that the searcher asks
    for it again. The searcher is always asked for whole batches, so that `evals` may be raised on resume.
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
    searcher: Searcher, ledger: Ledger, evaluator: _Evaluator, batch: int, evals: int
) -> Iterator[Sequence[Evaluation]]:
    """Runs the search with `batch` subnets under way at any time; yields each chunk once it is in the ledger.

    Nothing is replayed on resume: the searcher takes in what the ledger holds, and goes on from there.
    """
    for held in ledger.evaluations:
        searcher.take(held.subnet)
    searcher.tell(ledger.evaluations[:])
    while True:
        done, under_way = len(ledger.evaluations), evaluator.under_way
        room = min(batch, evals - done) - under_way
        if room > 0 and (room >= batch // 4 or not under_way):
            evaluator.begin(searcher.ask(room), ledger.evaluations)
        if not evaluator.under_way:
            return
        if chunk := evaluator.finished(done):
            ledger.append(chunk)
            yield chunk
            searcher.tell(chunk)


class _Evaluator:
    """Subnets to evaluations: costs first, then the score of those that keep the budgets.

    `rival` picks, of what is known already, what the score may rule subnets out against.
    """

    def __init__(
        self,
        executor: Executor,
        costs: _Costs,
        budgets: Sequence[Budget],
        rival: Callable[[Sequence[Evaluation]], Evaluation | None] | None,
    ) -> None:
        self.costs, self.budgets, self.executor = costs, budgets, executor
        self._rival = rival or (lambda known: None)
        self._begun: dict[Subnet, Evaluation] = {}

    @property
    def under_way(self) -> int:
        return len(self._begun)

    def begin(self, subnets: Sequence[Subnet], known: Sequence[Evaluation]) -> None:
        """Begins to evaluate `subnets`, of an executor that can tell of each as it is done."""
        costed = [self._costed(subnet, 0) for subnet in subnets]
        self._begun |= {evaluation.subnet: evaluation for evaluation in costed}
        within = [evaluation.subnet for evaluation in costed if evaluation.ok]
        cast(Concurrent, self.executor).submit(within, self._rival(known))

    def finished(self, first: int) -> list[Evaluation]:
        """What is done by now, numbered from `first` in the order of completion."""
        done = [self._begun.pop(e.subnet) for e in list(self._begun.values()) if not e.ok]
        if not done:
            found = cast(Concurrent, self.executor).collect()
            done = [_scored(self._begun.pop(subnet), outcome) for subnet, outcome in found if subnet in self._begun]
        return [replace(evaluation, index=index) for index, evaluation in enumerate(done, start=first)]

    def run(self, subnets: Sequence[Subnet], first: int, known: Sequence[Evaluation]) -> Iterator[list[Evaluation]]:
        """Evaluations in the order of `subnets`, numbered from `first`, in chunks as they become known.

        `known` was told before all of the batch: nothing depends on where a batch was interrupted.
        """
        waiting = [self._costed(subnet, index) for index, subnet in enumerate(subnets, start=first)]
        within = [evaluation.subnet for evaluation in waiting if evaluation.ok]
        for outcomes in self.executor.run(within, self._rival(known)):
            chunk: list[Evaluation] = []
            for outcome in outcomes:
                while not waiting[0].ok:
                    chunk.append(waiting.pop(0))
                chunk.append(_scored(waiting.pop(0), outcome))
            yield chunk
        if waiting:
            yield waiting

    def check_replay(self, subnet: Subnet, evaluation: Evaluation) -> None:
        """Raises `RunError` where the ledger holds another subnet, or a table gives it other costs now."""
        held = evaluation.subnet
        if subnet != held:
            raise RunError(
                f"cannot resume: evaluation {evaluation.index} should be of subnet {subnet.id}, but the ledger holds "
                f"{held.id}; settings or versions changed"
            )
        for name, table in self.costs.tables.items():
            if table.of(subnet) != evaluation.costs.get(name):
                raise RunError(
                    f"cannot resume: {name} of subnet {subnet.id} is {table.of(subnet)}, but the ledger holds "
                    f"{evaluation.costs.get(name)}; the cost changed"
                )

    def _costed(self, subnet: Subnet, index: int) -> Evaluation:
        start = time.perf_counter()
        try:
            costs, error = self.costs.of(subnet), None
        except Exception as raised:  # a cost that cannot be measured fails its subnet, not the search
            costs, error = self.costs.of_tables(subnet), told_in_one_line(raised)
        over = any(not budget.keeps(costs.get(budget.cost, 0)) for budget in self.budgets)
        status = "failed" if error else "over budget" if over else "ok"
        return Evaluation(index, subnet, costs, None, status, error, time.perf_counter() - start, _now())


def _scored(costed: Evaluation, outcome: Outcome) -> Evaluation:
    status = "failed" if outcome.error is not None else "ruled out" if outcome.ruled_out else "ok"
    seconds = round(costed.seconds + outcome.seconds, 6)
    return replace(costed, score=outcome.score, status=status, error=outcome.error, seconds=seconds, at=_now())


class _Costs:
    """The costs by name: `tables` are solved ahead of the search, the others measured."""

    def __init__(self, space: Space, costs: Mapping[str, Any]) -> None:
        if not isinstance(costs, Mapping):
            raise NasError(f"costs must map names to costs, as in {{'params': table}}; got {type(costs).__name__}")
        self.space, self.names = space, tuple(costs)
        self.tables: dict[str, AdditiveTable] = {}
        for name, cost in costs.items():
            table = cost if isinstance(cost, AdditiveTable) else getattr(cost, "table", None)
            if isinstance(table, AdditiveTable):
                self.tables[name] = table
                if table.space != space:
                    raise SpaceError(f"cost '{name}' is of space '{table.space.name}', the search is in '{space.name}'")
            elif not callable(getattr(cost, "of", None)):
                raise NasError(f"cost '{name}' must be an AdditiveTable or have .of(subnet); got {type(cost).__name__}")
        self._measured = {name: cost.of for name, cost in costs.items() if name not in self.tables}
        self.verifiers = {name: cost.verify for name, cost in costs.items() if callable(getattr(cost, "verify", None))}

    def feasible(self, budgets: Sequence[Budget]) -> Feasible:
        """The subnets that keep the budgets on tables; of several budgets on one cost only the tightest matters."""
        tightest: dict[str, Number] = {}
        for budget in budgets:
            if budget.cost not in self.names:
                known = ", ".join(self.names) or "none"
                raise NasError(f"unknown cost '{budget.cost}' in budget '{budget}'; known here: {known}")
            tightest[budget.cost] = min(budget.limit, tightest.get(budget.cost, budget.limit))
        return Feasible(self.space, [(self.tables[c], limit) for c, limit in tightest.items() if c in self.tables])

    def of(self, subnet: Subnet) -> dict[str, Number]:
        """All costs of a subnet, in the order in which they were given."""
        costs = self.of_tables(subnet)
        for name, measure in self._measured.items():
            value = measure(subnet)
            costs[name] = value if isinstance(value, int) else float(value)
            if not math.isfinite(costs[name]):
                raise ValueError(f"{name} is {costs[name]}")
        return {name: costs[name] for name in self.names}

    def of_tables(self, subnet: Subnet) -> dict[str, Number]:
        return {name: table.of(subnet) for name, table in self.tables.items()}


def _budgets(budgets: Sequence[str | Budget], known: Sequence[str]) -> list[Budget]:
    if not isinstance(budgets, (tuple, list)) or not all(isinstance(each, (str, Budget)) for each in budgets):
        raise NasError(f"budgets must be a tuple like ('params<=27M',); got {budgets!r}")
    return [Budget.parse(each, known) if isinstance(each, str) else each for each in budgets]


def _described(score: Score) -> dict[str, Any]:
    """The name of a score and its settings, as far as it tells them."""
    name = getattr(score, "name", None) or getattr(score, "__qualname__", type(score).__qualname__)
    return {"name": name, **getattr(score, "settings", {})}


def _circumstances() -> dict[str, Any]:
    try:
        own = version("lighthubert-nas")
    except PackageNotFoundError:
        own = "unknown"
    versions = {"lighthubert-nas": own, "python": platform.python_version(), "numpy": np.__version__}
    return {"versions": versions, "command": " ".join(sys.argv), "started": _now()}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
