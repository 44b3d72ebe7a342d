from __future__ import annotations

import statistics
import subprocess
import sys

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

import nas
from evaluators.scores import synthetic
from nas import Objective, get_searcher
from nas.testing.worlds import evaluation, params_of, tiny_space
from search_spaces import Feasible, NasError, Subnet, get_space
from tests.nas.test_import import ROOT

SPACE = tiny_space()
PARAMS = params_of(SPACE)
LEAST, MOST = PARAMS.range()
FEASIBLE = Feasible(SPACE, [(PARAMS, LEAST + (MOST - LEAST) // 5)])


def subnet_of(trial):
    """Spelled out by hand: depth 2 keeps layers 0 and 2."""
    layers = (0, 2) if trial.params["depth"] == 2 else (0, 1, 2)
    heads = tuple(trial.params[f"heads_{layer}"] for layer in layers)
    return Subnet(trial.params["embed_dim"], heads, tuple(trial.params[f"ffn_{layer}"] for layer in layers))


@pytest.mark.parametrize("name", ["optuna-tpe", "optuna-nsga2", "optuna-random"])
def test_the_study_is_told_of_what_was_evaluated(name):
    made = get_searcher(name)(FEASIBLE, Objective(cost="params"), np.random.default_rng(0), 64)
    told = []
    for _ in range(8):
        batch = made.ask(5)
        assert sum(trial.state == TrialState.RUNNING for trial in made._study.trials) == 5
        told += [evaluation(len(told) + i, s, float(i), int(PARAMS.of(s))) for i, s in enumerate(batch)]
        made.tell(told[-5:])
    trials = made._study.get_trials(states=[TrialState.COMPLETE])
    assert [subnet_of(trial) for trial in trials] == [e.subnet for e in told]
    assert [trial.values for trial in trials] == [[e.score, e.costs["params"]] for e in told]
    assert {len(trial.params) for trial in trials} == {2 + 2 * 3}, "samplers learn only from full trials"


def test_generations_go_on_with_what_was_repaired():
    made = get_searcher("optuna-nsga2")(FEASIBLE, Objective(), np.random.default_rng(0), 64)
    for first in range(0, 64, 16):
        made.tell([evaluation(first + i, s, float(i)) for i, s in enumerate(made.ask(16))])
    generations = [
        t.system_attrs["NSGAIISampler:generation"] for t in made._study.get_trials(states=[TrialState.COMPLETE])
    ]
    assert generations == [0] * 16 + [1] * 16 + [2] * 16 + [3] * 16


def test_failures_and_violations_are_told_as_such():
    made = get_searcher("optuna-tpe")(FEASIBLE, Objective(), np.random.default_rng(0), 64)
    a, b, c = made.ask(3)
    made.tell([evaluation(0, a), evaluation(1, b, None, status="failed"), evaluation(2, c, None, status="over budget")])
    assert [t.state for t in made._study.trials[-3:]] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED]
    assert [t.constraints for t in made._study.trials[-3:]] == [{}, {}, {"budget": 1.0}]


def test_tpe_beats_random_under_equal_evaluations(without_uniform):
    space = get_space("hubert-tiny")
    params = params_of(space)
    low, high = params.range()
    budget = nas.Budget("params", low + (high - low) // 3)
    gains = []
    for seed in range(5):
        score = synthetic(space, seed=seed)
        random, tpe = (
            nas.search(space, score, {"params": params}, [budget], name, evals=128, seed=seed).best.score
            for name in ("random", "optuna-tpe")
        )
        gains.append(tpe - random)
    assert statistics.median(gains) > 0.02
    assert sum(gain > 0 for gain in gains) >= 4


def test_the_verbosity_of_optuna_is_put_back():
    before = optuna.logging.get_verbosity()
    get_searcher("optuna-nsga3")(FEASIBLE, Objective(), np.random.default_rng(0), 64).ask(2)
    assert optuna.logging.get_verbosity() == before


def test_without_optuna_one_line_says_what_to_install(monkeypatch):
    for module in ("nas.searchers.optuna_samplers", "nas.study"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(NasError) as told:
        get_searcher("optuna-tpe")
    assert str(told.value) == "searcher 'optuna-tpe' needs optuna: pip install 'lighthubert-nas[optuna]'"


@pytest.mark.parametrize(
    ("code", "kept_out"),
    [("import nas, nas.searchers", "optuna"), ("import nas; nas.get_searcher('optuna-gp')", "torch")],
)
def test_importing_is_lazy(code, kept_out):
    code = f"import sys; {code}; sys.exit({kept_out!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
