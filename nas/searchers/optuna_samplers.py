"""Optuna's samplers as searchers.

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

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState

from nas.objective import Objective
from nas.runs.ledger import Evaluation
from nas.searchers.base import Searcher
from nas.searchers.evolution import population
from nas.study import as_trial, directions_of, distributions_of, parameters_of, quietly, subnet_of
from search_spaces import Feasible, Subnet

__all__ = [
    "GPSearcher",
    "NSGAIIISearcher",
    "NSGAIISearcher",
    "OptunaRandomSearcher",
    "OptunaSearcher",
    "TPESearcher",
]

_TRIES = 4


class OptunaSearcher(Searcher):
    """The common part of these searchers: everything except the sampler."""

    def __init__(self, feasible: Feasible, objective: Objective, rng: np.random.Generator, evals: int) -> None:
        super().__init__(feasible, objective, rng, evals)
        with quietly():
            sampler = self.sampler(int(rng.integers(1 << 31)))
            self._study = optuna.create_study(sampler=sampler, directions=directions_of(objective))
        self._distributions = distributions_of(self.space)
        self._running: dict[Subnet, Trial] = {}

    @abstractmethod
    def sampler(self, seed: int) -> BaseSampler:
        """Optuna's sampler."""

    def ask(self, n: int) -> list[Subnet]:
        subnets: list[Subnet] = []
        with quietly():
            while len(subnets) < n and len(self.seen) < self.feasible.count():
                subnets.append(self._proposal())
        return subnets

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        super().tell(evaluations)
        with quietly():
            for evaluation in evaluations:
                self._tell(evaluation)

    def _proposal(self) -> Subnet:
        """A new subnet: the sampler's proposal, repaired; or a uniform draw, after a few that were seen."""
        for _ in range(_TRIES):
            trial = self._study.ask(self._distributions)
            subnet = self.repair(subnet_of(self.space, trial.params))
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
        params = {**asked.params, **parameters_of(self.space, evaluation.subnet)}
        attributes = self._study.get_trials(deepcopy=False)[asked.number].system_attrs
        self._study.add_trial(as_trial(evaluation, self.objective, params, self._distributions, attributes))


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
