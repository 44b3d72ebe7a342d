"""Optuna's samplers as searchers, and a run as an Optuna study that optuna-dashboard opens.

The study lives in memory; the ledger stays the source of truth. A trial that was asked for is running until its subnet
is evaluated, so that samplers see the rest of the batch; then it fails, and a trial of the evaluated subnet is added.
The two differ if the proposal was over a budget, and was repaired.

Measured on the synthetic score of hubert-tiny (192 evaluations, mean regret under a third and a tenth of the range of
params). Infeasible proposals: reported as pruned and with their violation, TPE was worse than without (0.106 against
0.098, and 0.059 against 0.046; 12 seeds), so they only fail. Parameters are categorical: as integers TPE crowds onto
what it has seen, five of six proposals were duplicates, and it took 14 times as long for more regret (0.122 against
0.108; 5 seeds).
"""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from nas.objective import Objective
from nas.runs.ledger import Evaluation
from nas.searchers.base import Searcher
from nas.searchers.evolution import population
from search_spaces import Feasible, NasError, Space, Subnet
from search_spaces.files import replacing
from search_spaces.types import JsonMapping

__all__ = [
    "GPSearcher",
    "NSGAIIISearcher",
    "NSGAIISearcher",
    "OptunaRandomSearcher",
    "OptunaSearcher",
    "TPESearcher",
    "write_study",
]

_TRIES = 4
_STATES = {
    "ok": TrialState.COMPLETE,
    "ruled out": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
    "over budget": TrialState.PRUNED,
}
_OVER_BUDGET = {"budget": 1.0}  # violated; by how much, only the loop knows: costs that get this far have no table


class OptunaSearcher(Searcher):
    """The common part of these searchers: everything except the sampler."""

    def __init__(self, feasible: Feasible, objective: Objective, rng: np.random.Generator, evals: int) -> None:
        super().__init__(feasible, objective, rng, evals)
        with _quietly():
            sampler = self.sampler(int(rng.integers(1 << 31)))
            self._study = optuna.create_study(sampler=sampler, directions=_directions(objective))
        self._distributions = _distributions(self.space)
        self._running: dict[Subnet, Trial] = {}

    @abstractmethod
    def sampler(self, seed: int) -> BaseSampler:
        """Optuna's sampler."""

    def ask(self, n: int) -> list[Subnet]:
        subnets: list[Subnet] = []
        with _quietly():
            while len(subnets) < n and len(self.seen) < self.feasible.count():
                subnets.append(self._proposal())
        return subnets

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        super().tell(evaluations)
        with _quietly():
            for evaluation in evaluations:
                self._tell(evaluation)

    def _proposal(self) -> Subnet:
        """A new subnet: the sampler's proposal, repaired; or a uniform draw, after a few that were seen."""
        for _ in range(_TRIES):
            trial = self._study.ask(self._distributions)
            subnet = self.repair(_subnet(self.space, trial.params))
            if self.take(subnet):
                break
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            trial = self._study.ask(self._distributions)
            (subnet,) = self.draw(1)
        self._running[subnet] = trial
        return subnet

    def _tell(self, evaluation: Evaluation) -> None:
        """Adds the trial of the evaluated subnet, in place of the one that was asked for.

        Of that it keeps the parameters of layers that the subnet does not have, since samplers learn only from trials
        with every parameter, and the attributes, where genetic samplers note the generation.
        """
        asked = self._running.pop(evaluation.subnet, None) or self._study.ask(self._distributions)  # or of another run
        self._study.tell(asked, state=TrialState.FAIL)
        params = {**asked.params, **_parameters(self.space, evaluation.subnet)}
        attributes = self._study.get_trials(deepcopy=False)[asked.number].system_attrs
        self._study.add_trial(_trial(evaluation, self.objective, params, self._distributions, attributes))


class TPESearcher(OptunaSearcher):
    """Tree-structured Parzen estimator. Multivariate also for two objectives: five times as fast."""

    def sampler(self, seed: int) -> BaseSampler:
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


class NSGAIISearcher(OptunaSearcher):
    """Optuna's NSGA-II; ours is `nsga2`."""

    def sampler(self, seed: int) -> BaseSampler:
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=population(self.evals))


class NSGAIIISearcher(OptunaSearcher):
    """NSGA-III, made for many objectives."""

    def sampler(self, seed: int) -> BaseSampler:
        return optuna.samplers.NSGAIIISampler(seed=seed, population_size=population(self.evals))


class GPSearcher(OptunaSearcher):
    """Gaussian process: the slowest by far, for scores that take minutes. Imports torch when it is first asked."""

    def sampler(self, seed: int) -> BaseSampler:
        return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)


class OptunaRandomSearcher(OptunaSearcher):
    """Each choice drawn uniformly, then repaired; `random` is uniform over the subnets that fit."""

    def sampler(self, seed: int) -> BaseSampler:
        return optuna.samplers.RandomSampler(seed=seed)


def write_study(
    evaluations: Sequence[Evaluation], space: Space, objective: Objective, path: str | os.PathLike[str]
) -> None:
    """Writes the evaluations as an Optuna study named after the space, in a journal file: `optuna-dashboard PATH`.

    A trial has the parameters of the layers its subnet keeps. Replaces an earlier study, and nothing else: raises
    `NasError` for any other file that is there.
    """
    _check_replaceable(Path(path))
    distributions = _distributions(space)
    with _quietly(), replacing(path) as temporary:
        temporary.unlink()  # Optuna makes its own file
        storage = JournalStorage(JournalFileBackend(str(temporary)))
        study = optuna.create_study(storage=storage, study_name=space.name, directions=_directions(objective))
        study.set_metric_names(list(objective.names))
        for evaluation in evaluations:
            study.add_trial(_trial(evaluation, objective, _parameters(space, evaluation.subnet), distributions))


def _check_replaceable(file: Path) -> None:
    try:
        start = file.read_bytes()[:4096].split(b"\n")[0] if file.is_file() else None
    except OSError as error:
        raise NasError(f"cannot read {file}: {error.strerror or error}") from None
    if start and b'"op_code"' not in start:
        raise NasError(f"{file} exists, and is not an Optuna journal: give another file")


def _trial(
    evaluation: Evaluation,
    objective: Objective,
    params: JsonMapping,
    distributions: Mapping[str, BaseDistribution],
    attributes: JsonMapping | None = None,
) -> FrozenTrial:
    """The finished trial of an evaluation, at the time at which it was made."""
    known = {key: value for key, value in evaluation.to_dict().items() if key in ("id", "costs", "error")}
    trial = create_trial(
        state=_STATES[evaluation.status],
        values=_values(evaluation, objective) if evaluation.scored else None,
        params=dict(params),
        distributions={name: distributions[name] for name in params},
        user_attrs=known,
        system_attrs=dict(attributes or {}),
        constraints=_OVER_BUDGET if evaluation.status == "over budget" else None,
    )
    if evaluation.at:
        end = datetime.fromisoformat(evaluation.at).astimezone().replace(tzinfo=None)  # Optuna's times are local
        trial.datetime_start, trial.datetime_complete = end - timedelta(seconds=evaluation.seconds), end
    return trial


def _values(evaluation: Evaluation, objective: Objective) -> list[float]:
    assert evaluation.score is not None
    return [evaluation.score] if objective.cost is None else [evaluation.score, float(evaluation.costs[objective.cost])]


def _directions(objective: Objective) -> list[StudyDirection]:
    score = StudyDirection.MAXIMIZE if objective.maximize else StudyDirection.MINIMIZE
    return [score] if objective.cost is None else [score, StudyDirection.MINIMIZE]


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    """The parameters: embed dim, depth, heads and FFN ratio of each layer (from 0) that any depth keeps, front end."""
    choices: dict[str, Sequence[int | float]] = {"embed_dim": space.embed_dims, "depth": space.depths}
    for layer in sorted({layer for kept in space.depth_map.values() for layer in kept}):
        choices[f"heads_{layer}"] = space.heads[layer]
        choices[f"ffn_{layer}"] = space.ffn_ratios[layer]
    if space.elastic_front_end:
        choices["front_end"] = tuple(range(len(space.front_ends)))
    return {name: CategoricalDistribution(values) for name, values in choices.items()}


def _parameters(space: Space, subnet: Subnet) -> dict[str, int | float]:
    """Of the layers that `subnet` keeps."""
    params: dict[str, int | float] = {"embed_dim": subnet.embed_dim, "depth": subnet.depth}
    for layer, (heads, ratio) in space.layers_of(subnet).items():
        params |= {f"heads_{layer}": heads, f"ffn_{layer}": ratio}
    if space.elastic_front_end:
        params["front_end"] = space.front_ends.index(subnet.front_end)
    return params


def _subnet(space: Space, params: JsonMapping) -> Subnet:
    kept = space.kept_layers(params["depth"])
    heads = tuple(params[f"heads_{layer}"] for layer in kept)
    front_end = space.front_ends[params.get("front_end", 0)]
    return Subnet(params["embed_dim"], heads, tuple(params[f"ffn_{layer}"] for layer in kept), front_end)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Optuna's log lines and its warnings that something is experimental; restores both."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
