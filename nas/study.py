"""Runs as Optuna studies, and back: `nas report --journal`, `SearchResult.to_optuna` and `nas.search(warm_start=...)`.

A trial of a space has the parameters `embed_dim`, `depth`, and for each layer of the supernet (from 0) that the subnet
keeps `heads_L` and `ffn_L` (the FFN ratio); in spaces with a choice of front ends also `front_end`, its number. Its
first value is the score. So an objective for Optuna alone looks like this:

    def objective(trial):
        embed_dim = trial.suggest_categorical("embed_dim", space.embed_dims)
        depth = trial.suggest_categorical("depth", space.depths)
        layers = space.kept_layers(depth)
        heads = tuple(trial.suggest_categorical(f"heads_{i}", space.heads[i]) for i in layers)
        ratios = tuple(trial.suggest_categorical(f"ffn_{i}", space.ffn_ratios[i]) for i in layers)
        return score(Subnet(embed_dim, heads, ratios))
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.objective import Objective
from nas.runs.ledger import Evaluation
from search_spaces import NasError, Space, Subnet
from search_spaces.files import replacing
from search_spaces.types import JsonMapping

__all__ = [
    "as_study",
    "as_trial",
    "directions_of",
    "distributions_of",
    "evaluations_of",
    "parameters_of",
    "quietly",
    "subnet_of",
    "write_study",
]

_STATES = {
    "ok": TrialState.COMPLETE,
    "ruled out": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
    "over budget": TrialState.PRUNED,
}
_OVER_BUDGET = {"budget": 1.0}  # violated; by how much, only the loop knows: costs that get this far have no table


# -------------------------------------------------------------------- to Optuna


def as_study(
    evaluations: Sequence[Evaluation],
    space: Space,
    objective: Objective,
    storage: JournalStorage | None = None,
) -> optuna.Study:
    """The evaluations as a study named after the space, in memory unless a storage is given."""
    distributions = distributions_of(space)
    with quietly():
        study = optuna.create_study(storage=storage, study_name=space.name, directions=directions_of(objective))
        study.set_metric_names(list(objective.names))
        for evaluation in evaluations:
            study.add_trial(as_trial(evaluation, objective, parameters_of(space, evaluation.subnet), distributions))
    return study


def write_study(
    evaluations: Sequence[Evaluation], space: Space, objective: Objective, path: str | os.PathLike[str]
) -> None:
    """Writes the study of the evaluations in a journal file: `optuna-dashboard PATH`.

    Replaces an earlier study, and nothing else: raises `NasError` for any other file that is there.
    """
    _check_replaceable(Path(path))
    with replacing(path) as temporary, quietly():
        temporary.unlink()  # Optuna makes its own file
        as_study(evaluations, space, objective, JournalStorage(JournalFileBackend(str(temporary))))


def _check_replaceable(file: Path) -> None:
    try:
        start = file.read_bytes()[:4096].split(b"\n")[0] if file.is_file() else None
    except OSError as error:
        raise NasError(f"cannot read {file}: {error.strerror or error}") from None
    if start and b'"op_code"' not in start:
        raise NasError(f"{file} exists, and is not an Optuna journal: give another file")


def as_trial(
    evaluation: Evaluation,
    objective: Objective,
    params: JsonMapping,
    distributions: Mapping[str, CategoricalDistribution],
    attributes: JsonMapping | None = None,
) -> FrozenTrial:
    """The finished trial of an evaluation, at the time at which it was made."""
    known = {key: value for key, value in evaluation.to_dict().items() if key in ("id", "costs", "status", "error")}
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


def directions_of(objective: Objective) -> list[StudyDirection]:
    """The direction of the score, and of the cost if there is one."""
    score = StudyDirection.MAXIMIZE if objective.maximize else StudyDirection.MINIMIZE
    return [score] if objective.cost is None else [score, StudyDirection.MINIMIZE]


def distributions_of(space: Space) -> dict[str, CategoricalDistribution]:
    """The parameters: embed dim, depth, heads and FFN ratio of each layer (from 0) that any depth keeps, front end."""
    choices: dict[str, Sequence[int | float]] = {"embed_dim": space.embed_dims, "depth": space.depths}
    for layer in sorted({layer for kept in space.depth_map.values() for layer in kept}):
        choices[f"heads_{layer}"] = space.heads[layer]
        choices[f"ffn_{layer}"] = space.ffn_ratios[layer]
    if space.elastic_front_end:
        choices["front_end"] = tuple(range(len(space.front_ends)))
    return {name: CategoricalDistribution(values) for name, values in choices.items()}


def parameters_of(space: Space, subnet: Subnet) -> dict[str, int | float]:
    """Of the layers that `subnet` keeps."""
    params: dict[str, int | float] = {"embed_dim": subnet.embed_dim, "depth": subnet.depth}
    for layer, (heads, ratio) in space.layers_of(subnet).items():
        params |= {f"heads_{layer}": heads, f"ffn_{layer}": ratio}
    if space.elastic_front_end:
        params["front_end"] = space.front_ends.index(subnet.front_end)
    return params


def subnet_of(space: Space, params: JsonMapping) -> Subnet:
    """The inverse of `parameters_of`; parameters of layers that the depth does not keep are passed over."""
    kept = space.kept_layers(params["depth"])
    heads = tuple(params[f"heads_{layer}"] for layer in kept)
    front_end = space.front_ends[params.get("front_end", 0)]
    return Subnet(params["embed_dim"], heads, tuple(params[f"ffn_{layer}"] for layer in kept), front_end)


# -------------------------------------------------------------------- from Optuna


def evaluations_of(study: optuna.Study, space: Space, maximize: bool) -> list[Evaluation]:
    """The complete trials of a study over the choices of `space`: the first of each subnet, without costs.

    Parameters with one choice may be missing. Raises `NasError` for a study that has no complete trial or the other
    direction, and for the first trial that does not fit the space.
    """
    if not isinstance(study, optuna.Study):
        raise NasError(f"warm_start must be an Optuna study; got {study!r:.80}")
    if (study.directions[0] == StudyDirection.MAXIMIZE) is not maximize:
        ours, own = ("maximises", "minimises") if maximize else ("minimises", "maximises")
        raise NasError(f"study '{study.study_name}' {own} its first value, and this search {ours} its score")
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not trials:
        raise NasError(f"study '{study.study_name}' has no complete trial to start from: leave warm_start out")
    distributions = distributions_of(space)
    evaluations: dict[Subnet, Evaluation] = {}
    for trial in trials:
        try:
            subnet, score = _subnet(trial.params, space, distributions), _score(trial)
        except NasError as error:
            raise NasError(f"trial {trial.number} of study '{study.study_name}' does not fit: {error}") from None
        if subnet not in evaluations:
            evaluations[subnet] = Evaluation(
                index=len(evaluations),
                subnet=subnet,
                costs={},
                score=score,
                status="ruled out" if trial.user_attrs.get("status") == "ruled out" else "ok",  # an estimate stays one
                seconds=round(trial.duration.total_seconds(), 6) if trial.duration else 0.0,
                at=_utc(trial.datetime_complete),
                origin=f"optuna: trial {trial.number} of {study.study_name}",
            )
    return list(evaluations.values())


def _subnet(given: JsonMapping, space: Space, distributions: Mapping[str, CategoricalDistribution]) -> Subnet:
    """The subnet of a trial's parameters, each of them checked."""
    unknown = [name for name in given if name not in distributions]
    if unknown:
        known = ", ".join(distributions)
        raise NasError(f"parameter '{unknown[0]}' is no choice of space '{space.name}'; its choices: {known}")
    params: dict[str, int | float] = {}
    for name, distribution in distributions.items():
        choices = distribution.choices
        if name in given and given[name] in choices:
            params[name] = choices[choices.index(given[name])]
        elif name in given:
            allowed = ", ".join(map(str, choices))
            raise NasError(f"{name}={given[name]!r} is not in space '{space.name}'; allowed: {allowed}")
        elif len(choices) == 1:
            params[name] = choices[0]
    try:
        return subnet_of(space, params)
    except KeyError as error:
        raise NasError(f"it has no parameter {error}") from None


def _score(trial: FrozenTrial) -> float:
    score = float(trial.values[0])
    if not math.isfinite(score):
        raise NasError(f"its value is {score}")
    return score


def _utc(local: datetime | None) -> str:
    """Optuna's times are local."""
    moment = datetime.now(timezone.utc) if local is None else local.astimezone(timezone.utc)
    return moment.isoformat(timespec="milliseconds")


@contextmanager
def quietly() -> Iterator[None]:
    """Without Optuna's log lines and its warnings that something is experimental; restores both."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
