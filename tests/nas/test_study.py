"""Runs as Optuna studies, and studies as what a search starts from."""

from __future__ import annotations

import json
from datetime import datetime

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import nas
from evaluators.scores import synthetic
from nas import Objective
from nas.runs.folder import read_settings
from nas.study import as_study, distributions_of, evaluations_of, parameters_of, quietly, subnet_of, write_study
from nas.testing.worlds import Counting, content, evaluation, params_of, tiny_space
from search_spaces import NasError, RunError, Space, Subnet
from tests.nas.searchers.test_optuna_samplers import subnet_of as spelled_out

SPACE = tiny_space()
PARAMS = params_of(SPACE)
SCORE = synthetic(SPACE, seed=1)
OPTIONS = {"costs": {"params": PARAMS}, "budgets": ["params<=400K"], "evals": 24, "batch": 8}


def loaded(path):
    return optuna.load_study(study_name=SPACE.name, storage=JournalStorage(JournalFileBackend(str(path))))


def test_a_written_study_is_read_back(tmp_path):
    a, b, c = Subnet(128, (2, 4), (1.5, 3.5)), Subnet(192, (2, 4, 6), (1.5, 3.5, 1.5)), Subnet(128, (4, 4), (1.5, 3.5))
    evaluations = [
        evaluation(0, a, 0.25, 7, at="2026-05-04T10:00:00.500+00:00"),
        evaluation(1, b, None, 8, status="failed", error="score is NaN"),
        evaluation(2, c, None, 9, status="over budget"),
    ]
    path = tmp_path / "study.log"
    path.write_text('{"op_code": 0, "worker_id": "of an earlier run"}\n')
    write_study(evaluations, SPACE, Objective(maximize=False, cost="params"), path)
    study = loaded(path)
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE"]
    assert study.metric_names == ["score", "params"]
    ok, failed, over = study.trials
    assert ok.values == [0.25, 7.0]
    assert ok.params == {"embed_dim": 128, "depth": 2, "heads_0": 2, "ffn_0": 1.5, "heads_2": 4, "ffn_2": 3.5}
    assert ok.datetime_complete.astimezone() == datetime.fromisoformat("2026-05-04T10:00:00.500+00:00")
    assert ok.user_attrs == {"id": a.id, "costs": {"params": 7}, "status": "ok", "error": None}
    assert (failed.state, failed.user_attrs["error"]) == (TrialState.FAIL, "score is NaN")
    assert (over.state, over.constraints) == (TrialState.PRUNED, {"budget": 1.0})
    assert [spelled_out(trial) for trial in study.trials] == [a, b, c]
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.log"]


def test_the_study_of_a_run_finds_the_best_of_the_run(tmp_path):
    result = nas.search(SPACE, synthetic(SPACE), {"params": PARAMS}, evals=20)
    write_study(result.evaluations, SPACE, Objective(), tmp_path / "study.log")
    study = loaded(tmp_path / "study.log")
    assert (study.best_value, study.best_trial.number) == (result.best.score, result.best.index)


def test_a_study_of_nothing_is_a_study(tmp_path):
    write_study([], SPACE, Objective(), tmp_path / "study.log")
    assert loaded(tmp_path / "study.log").trials == []


def test_a_study_replaces_no_other_file(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(NasError, match="is not an Optuna journal"):
        write_study([], tiny_space(), Objective(), tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "mine"


# -------------------------------------------------------------------- from Optuna


def objective(trial):
    """As the module shows it."""
    embed_dim = trial.suggest_categorical("embed_dim", SPACE.embed_dims)
    depth = trial.suggest_categorical("depth", SPACE.depths)
    layers = SPACE.kept_layers(depth)
    heads = tuple(trial.suggest_categorical(f"heads_{i}", SPACE.heads[i]) for i in layers)
    ratios = tuple(trial.suggest_categorical(f"ffn_{i}", SPACE.ffn_ratios[i]) for i in layers)
    return SCORE([Subnet(embed_dim, heads, ratios)])[0]


@pytest.fixture(scope="module")
def study():
    with quietly():
        made = optuna.create_study(study_name="mine", direction="maximize", sampler=optuna.samplers.RandomSampler(0))
        made.optimize(objective, n_trials=40)
        made.add_trial(optuna.create_trial(state=TrialState.FAIL))
    return made


def trial_of(params, value=1.0):
    distributions = {name: optuna.distributions.CategoricalDistribution([each]) for name, each in params.items()}
    return optuna.create_trial(params=params, distributions=distributions, value=value)


def test_parameters_lead_back_to_the_subnet():
    rng = np.random.default_rng(0)
    for _ in range(20):
        subnet = SPACE.sample(rng)
        params = parameters_of(SPACE, subnet)
        assert set(params) <= set(distributions_of(SPACE))
        assert subnet_of(SPACE, params) == subnet


def test_the_trials_of_a_study_are_evaluations(study):
    made = evaluations_of(study, SPACE, True)
    complete = study.get_trials(states=[TrialState.COMPLETE])
    expected = dict(reversed([(spelled_out(trial), trial) for trial in complete]))
    assert {e.subnet: e.score for e in made} == {subnet: trial.value for subnet, trial in expected.items()}
    assert made[0].origin == "optuna: trial 0 of mine"
    made_at, local = datetime.fromisoformat(made[0].at), complete[0].datetime_complete.astimezone()
    assert abs((made_at - local).total_seconds()) < 0.001


def test_a_run_comes_back_from_its_study_with_its_estimates():
    estimate = evaluation(1, Subnet(192, (2, 4), (1.5, 1.5)), 0.25, status="ruled out")
    made = [evaluation(0, Subnet(128, (2, 4), (1.5, 1.5))), estimate]
    back = evaluations_of(as_study(made, SPACE, Objective(cost="params")), SPACE, True)
    assert [(e.subnet, e.score, e.status) for e in back] == [(e.subnet, e.score, e.status) for e in made]


FITS = {"embed_dim": 128, "depth": 2, "heads_0": 2, "ffn_0": 1.5, "heads_2": 4, "ffn_2": 3.5}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"heads_2": 5}, "heads_2=5 is not in space 'test'; allowed: 2, 4, 6"),
        ({"depth": 7}, "depth=7 is not in space 'test'; allowed: 2, 3"),
        ({"embed_dim": "wide"}, "embed_dim='wide' is not in space"),
        ({"lr": 0.1}, "parameter 'lr' is no choice of space 'test'; its choices: embed_dim, depth, heads_0"),
        ({"depth": 3}, "it has no parameter 'heads_1'"),
        ({"value": float("inf")}, "its value is inf"),
    ],
)
def test_what_does_not_fit_the_space_is_one_line(change, says):
    params = {**FITS, **change}
    study = as_study([], SPACE, Objective())
    study.add_trial(trial_of(FITS))
    study.add_trial(trial_of(params, params.pop("value", 1.0)))
    with pytest.raises(NasError, match=f"^trial 1 of study 'test' does not fit: {says}") as error:
        evaluations_of(study, SPACE, True)
    assert "\n" not in str(error.value)


def test_a_study_must_have_trials_and_the_direction_of_the_score():
    study = as_study([], SPACE, Objective())
    with pytest.raises(NasError, match="study 'test' has no complete trial to start from"):
        evaluations_of(study, SPACE, True)
    with pytest.raises(NasError, match="study 'test' maximises its first value, and this search minimises its score"):
        evaluations_of(study, SPACE, False)


def test_choices_that_are_none_may_be_left_out():
    space = Space("one", SPACE.network, (192,), ((2, 4),) * 3, ((1.5,),) * 3, {3: (0, 1, 2)})
    study = as_study([], space, Objective())
    study.add_trial(trial_of({"heads_0": 2, "heads_1": 4, "heads_2": 2}))
    assert evaluations_of(study, space, True)[0].subnet == Subnet(192, (2, 4, 2), (1.5, 1.5, 1.5))


# -------------------------------------------------------------------- a search that starts from a study


def test_what_is_known_is_in_the_ledger_and_not_evaluated_again(study, tmp_path):
    score = Counting(SCORE)
    result = nas.search(SPACE, score, warm_start=study, out=tmp_path, **OPTIONS)
    known = [e for e in result.evaluations if e.origin]
    assert [(e.subnet, e.score) for e in known] == [(e.subnet, e.score) for e in evaluations_of(study, SPACE, True)]
    assert [e.costs["params"] for e in known] == [PARAMS.of(e.subnet) for e in known]
    assert {e.status for e in known if e.costs["params"] > 400_000} == {"ruled out"}
    assert {e.status for e in known if e.costs["params"] <= 400_000} == {"ok"}
    assert [e.subnet for e in result.evaluations[len(known) :]] == score.scored
    assert len(score.scored) == 24
    assert not set(score.scored) & {e.subnet for e in known}
    assert result.best.costs["params"] <= 400_000
    assert read_settings(tmp_path)["warm_start"] == {"study": "mine", "evaluations": len(known)}
    trust = read_settings(tmp_path)["trust"]
    assert trust["evaluations"] == sum(e.ok for e in result.evaluations), "what is over the budget is no evidence"
    assert trust["proposals"]["new"] == 24
    assert trust["proposals"]["ruled_out"] == 0
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line).get("origin") for line in lines] == [e.origin for e in result.evaluations]


@pytest.mark.parametrize("searcher", ["exact", "evolution", "optuna-tpe"])
def test_a_resumed_run_starts_from_the_same(study, searcher, tmp_path):
    options = {**OPTIONS, "searcher": searcher, "out": tmp_path}
    whole = nas.search(SPACE, SCORE, warm_start=study, **options)
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "ledger.jsonl").write_text("".join(lines[:-13]))
    assert content(nas.search(SPACE, SCORE, resume=True, **options).evaluations) == content(whole.evaluations)


def test_a_search_of_nothing_new_names_the_best_known(study):
    result = nas.search(SPACE, SCORE, warm_start=study, **{**OPTIONS, "evals": 0})
    assert result.best.score == max(e.score for e in result.evaluations if e.costs["params"] <= 400_000)


def test_a_ledger_that_lost_what_was_known_is_refused(study, tmp_path):
    nas.search(SPACE, SCORE, warm_start=study, out=tmp_path, **OPTIONS)
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "ledger.jsonl").write_text("".join(lines[:3]))
    with pytest.raises(RunError, match=r"holds 3 of \d+ evaluations of the warm start: start another run"):
        nas.search(SPACE, SCORE, out=tmp_path, resume=True, **OPTIONS)
