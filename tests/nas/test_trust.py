"""What a run says of its own trustworthiness."""

import json

import numpy as np
import pytest
from scipy.stats import kendalltau

import nas
from evaluators.scores import synthetic
from nas.testing.worlds import params_of, tiny_space
from nas.trust import kendall_tau

SPACE = tiny_space()
PARAMS = params_of(SPACE)


def run(folder, score, evals=60, budgets=("params<=400K",)):
    nas.search(SPACE, score, {"params": PARAMS}, budgets, "exact", evals, out=folder)
    return json.loads((folder / "run.json").read_text())


def test_tau_is_that_of_scipy():
    rng = np.random.default_rng(0)
    a = rng.integers(8, size=60).astype(float)
    b = a + rng.normal(size=60)
    found = kendall_tau(a, b, rng)
    assert found["tau"] == pytest.approx(kendalltau(a, b).statistic, abs=1e-4)
    assert found["low"] < found["tau"] < found["high"]


def test_an_additive_score_is_trusted_more_than_noise(tmp_path):
    sure = run(tmp_path / "sure", synthetic(SPACE, seed=1))["trust"]
    unsure = run(tmp_path / "unsure", synthetic(SPACE, seed=1, noise=3.0))["trust"]
    assert sure["model"]["tau"] > 0.9
    assert unsure["model"]["low"] < 0.4
    assert sure["regret"] < 0.1 * unsure["regret"]


def test_the_certificate_holds(tmp_path):
    score = synthetic(SPACE, seed=1, interactions=0.3)
    held = 0
    for seed in range(8):
        result = nas.search(
            SPACE, score, {"params": PARAMS}, ("params<=400K",), "random", 60, seed, tmp_path / str(seed)
        )
        trust = json.loads((tmp_path / str(seed) / "run.json").read_text())["trust"]
        best = max(score([s for s in SPACE if PARAMS.of(s) <= 400_000]))
        held += best - result.best.score <= trust["regret"] + 1e-12
    assert held >= 7


def test_few_evaluations_are_said_to_be_few(tmp_path):
    found = run(tmp_path / "few", synthetic(SPACE, seed=1), evals=5)
    assert found["trust"]["model"] is None
    assert found["effects"] is None
    assert "5 scored subnets are too few" in found["trust"]["words"][0]


def test_effects_rank_what_the_score_is_made_of(tmp_path):
    score = synthetic(SPACE, seed=1)
    effects = run(tmp_path / "a", score, evals=120, budgets=())["effects"]
    truth = score.table.layers[0].mean((0, 1))
    found = [choice["effect"] for choice in effects["layers"][0]["choices"]]
    assert np.argsort(found).tolist() == np.argsort(truth).tolist()
    assert sum(choice["count"] for choice in effects["layers"][0]["choices"]) >= 64


def test_winners_are_scored_again_on_speech_held_out(tmp_path):
    score = synthetic(SPACE, seed=1)
    score.held_out = synthetic(SPACE, seed=1, noise=0.01)
    again = run(tmp_path / "a", score)["trust"]["rescored"]
    assert again["subnets"] == len(again["rows"]) == 16
    assert again["tau"] > 0.5
    assert again["rows"][0]["score"] == max(row["score"] for row in again["rows"])
