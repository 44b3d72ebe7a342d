"""A run, read once from its folder: what the report shows, as typed values."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar, cast

from nas.objective import Objective, best_and_front
from nas.report.run_json import Effects, Holdout, Hypervolume, Trust, Verification
from nas.runs.folder import read_run
from nas.runs.ledger import Evaluation
from search_spaces import NasError, RunError, Space, space_from_dict
from search_spaces.budget import Budget
from search_spaces.types import JsonObject

__all__ = ["Folder", "RunReport", "checked", "differences", "read_report", "read_reports", "report_of"]

Added = TypeVar("Added")
T = TypeVar("T")
Folder = str | os.PathLike[str]


@dataclass(frozen=True)
class RunReport:
    """What a run produced so far, rebuilt from its settings and ledger.

    `settings` is all of run.json. `uniform` is the best uniform subnet. `convergence` holds (evaluations, best score)
    whenever the best score improved. `largest` is the largest subnet, if it was scored. `effects`, `trust`,
    `hypervolume` and `verification` were added to run.json by the search, and are None if it has not ended.
    """

    folder: str
    settings: Mapping[str, object]
    evaluations: Sequence[Evaluation]
    space_choices: Mapping[str, object]
    space_size: int
    space_fits: int
    searcher: str
    seed: int
    score: str
    maximize: bool
    budgets: Sequence[Budget]
    front_cost: str | None
    evals: int
    best: Evaluation | None
    front: Sequence[Evaluation]
    convergence: Sequence[tuple[int, float]]
    effects: Effects | None
    trust: Trust | None
    hypervolume: Hypervolume | None
    verification: Verification | None
    holdout: Holdout | None
    uniform: Evaluation | None
    largest: Evaluation | None
    macs_seconds: float | None
    command: str | None
    versions: Mapping[str, str]

    @property
    def space_name(self) -> str:
        """The name of the space that was searched."""
        return str(self.space_choices["name"])

    @property
    def space(self) -> Space:
        """The space that was searched; raises `SpaceError` if run.json does not describe one."""
        return space_from_dict(self.space_choices)

    @property
    def counts(self) -> dict[str, int]:
        """Evaluations by status, and all of them as "proposed"."""
        statuses = [evaluation.status for evaluation in self.evaluations]
        return {
            "proposed": len(statuses),
            "ok": statuses.count("ok"),
            "failed": statuses.count("failed"),
            "over_budget": statuses.count("over budget"),
            "ruled_out": statuses.count("ruled out"),
        }

    @property
    def seconds(self) -> float:
        """Time spent in evaluations."""
        return round(sum(evaluation.seconds for evaluation in self.evaluations), 3)

    @property
    def errors(self) -> list[str]:
        """The distinct errors of failed evaluations, sorted."""
        return sorted({evaluation.error for evaluation in self.evaluations if evaluation.error})

    def budgets_on(self, cost: str) -> list[Budget]:
        """The budgets on `cost`, which includes a latency's target."""
        return [budget for budget in self.budgets if budget.cost == cost]

    def share_used(self, budget: Budget) -> float | None:
        """The best subnet's cost as a share of the budget; None without a best subnet, or if the limit is 0."""
        return self.best.costs[budget.cost] / budget.limit if self.best and budget.limit else None


def read_report(folder: Folder) -> RunReport:
    """What the run in `folder` produced so far.

    Raises `RunError` if the folder holds no run, or if its run.json or ledger is damaged.
    """
    return report_of(folder, *read_run(folder))


def report_of(folder: Folder, settings: JsonObject, evaluations: Sequence[Evaluation]) -> RunReport:
    """The same from the contents of run.json and the ledger."""
    objective = Objective(settings["maximize"], *settings["objectives"][1:])
    best, front = best_and_front(evaluations, objective, settings["front_cost"])
    verification = _added(settings, "verification", Verification)
    holdout = _added(settings, "holdout", Holdout)
    if holdout:
        best = next((e for e in evaluations if e.index == holdout.get("winner")), best)
    if verification:
        best = next((e for e in evaluations if e.index == verification.get("winner")), None)
    caller = _callers_settings(settings)
    largest = space_from_dict(settings["space"]).largest
    return RunReport(
        folder=str(folder),
        settings=settings,
        evaluations=evaluations,
        space_choices=settings["space"],
        space_size=settings["space_size"],
        space_fits=settings["space_fits"],
        searcher=settings["searcher"],
        seed=settings["seed"],
        score=settings["score"]["name"],
        maximize=settings["maximize"],
        budgets=tuple(Budget.parse(text, settings["costs"]) for text in settings["budgets"]),
        front_cost=settings["front_cost"],
        evals=settings["evals"],
        best=best,
        front=front,
        convergence=_improvements(evaluations, objective),
        effects=_added(settings, "effects", Effects),
        trust=_added(settings, "trust", Trust),
        hypervolume=_added(settings, "hypervolume", Hypervolume),
        verification=verification,
        holdout=holdout,
        uniform=objective.best([e for e in evaluations if e.subnet.uniform]),
        largest=next((e for e in evaluations if e.ok and e.subnet == largest), None),
        macs_seconds=cast("float | None", caller.get("macs_seconds")),
        command=cast("str | None", caller.get("command", settings.get("command"))),
        versions=settings.get("versions", {}),
    )


def read_reports(folders: Sequence[Folder], largest: Evaluation | None = None) -> list[RunReport]:
    """The runs in `folders` for pages and figures: None for NaN and infinities, which neither JSON nor a plot can hold.

    `largest`: the largest subnet of the first run, if it was scored outside the run.
    """
    if not folders:
        raise NasError("a report needs at least one run folder; got none")
    runs = [_finite(read_report(folder)) for folder in folders]
    return [replace(runs[0], largest=largest or runs[0].largest), *runs[1:]]


def _finite(run: RunReport) -> RunReport:
    return replace(
        run,
        effects=_finite_value(run.effects),
        trust=_finite_value(run.trust),
        hypervolume=_finite_value(run.hypervolume),
        verification=_finite_value(run.verification),
    )


def _finite_value(value: T) -> T:
    if isinstance(value, dict):
        return cast(T, {key: _finite_value(each) for key, each in value.items()})
    if isinstance(value, (list, tuple)):
        return cast(T, [_finite_value(each) for each in value])
    return cast(T, None) if isinstance(value, float) and not math.isfinite(value) else value


def differences(runs: Sequence[RunReport]) -> list[str]:
    """Why the scores of these runs cannot be compared: what they were searched in, scored by and made of."""
    known: dict[str, set[str]] = {"space": set(), "score": set(), "direction": set()}
    for run in runs:
        known["space"].add(run.space_name)
        known["score"].add(run.score)
        known["direction"].add(str(run.maximize))
        identity = _callers_settings(run.settings).get("identity")
        made_of = identity if isinstance(identity, dict) else {}
        for name in ("supernet", "audio", "teacher"):
            known.setdefault(name, set()).add(str(made_of.get(name)))
    return [name for name, values in known.items() if len(values) > 1]


@contextmanager
def checked(folder: Folder) -> Iterator[None]:
    """Turns errors in the block, which uses what the search added to the folder's run.json, into one `RunError`."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, NasError):
            raise
        raise RunError(
            f"effects, trust or hypervolume in {folder}/run.json are not as the search writes them: {error!r}"
        ) from error


def _added(settings: Mapping[str, object], name: str, kind: type[Added]) -> Added | None:
    """What the search added to run.json as `name`, taken to be a `kind`; None if it added nothing."""
    value = settings.get(name)
    if value is not None and not isinstance(value, dict):
        raise RunError(f"the {name} in run.json must be an object; got {value!r}")
    return cast("Added | None", value)


def _callers_settings(settings: Mapping[str, object]) -> Mapping[str, object]:
    """The caller's own entries in run.json: the command line stores its options and the command there."""
    caller = settings.get("settings")
    return caller if isinstance(caller, dict) else {}


def _improvements(evaluations: Sequence[Evaluation], objective: Objective) -> list[tuple[int, float]]:
    """(evaluations, best score) whenever the best score improved."""
    steps: list[tuple[int, float]] = []
    best: Evaluation | None = None
    for evaluation in evaluations:
        if evaluation.ok and (best is None or objective.worth(evaluation) > objective.worth(best)):
            best = evaluation
            assert best.score is not None
            steps.append((evaluation.index + 1, best.score))
    return steps
