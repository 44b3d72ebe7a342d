from __future__ import annotations

import os

import nas
from evaluators.scores import synthetic
from nas.runs.status import run_status
from nas.testing.worlds import tiny_space

SPACE = tiny_space()
SCORE = synthetic(SPACE, seed=1)


def test_a_run_is_running_stopped_or_finished(tmp_path):
    seen = []

    def score(subnets):
        seen.append(run_status(tmp_path))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return SCORE(subnets)

    score.name, score.settings = SCORE.name, SCORE.settings
    options = {"searcher": "random", "evals": 24, "batch": 8, "out": tmp_path}
    try:
        nas.search(SPACE, score, **options)
    except KeyboardInterrupt:
        stopped = run_status(tmp_path)
    assert [(each["state"], each["process"], each["evaluations"]) for each in seen] == [
        ("running", os.getpid(), 0),
        ("running", os.getpid(), 8),
        ("running", os.getpid(), 16),
    ]
    assert (stopped["state"], stopped["evaluations"], stopped["evals"]) == ("stopped", 16, 24)
    best = nas.search(SPACE, SCORE, resume=True, **options).best
    finished = run_status(tmp_path)
    assert (finished["state"], finished["process"]) == ("finished", None)
    assert (finished["best"], finished["best_score"]) == (best.subnet.id, best.score)
    assert finished["idle_seconds"] >= 0


def test_a_run_that_was_given_more_to_do_is_not_finished(tmp_path):
    options = {"searcher": "random", "batch": 8, "out": tmp_path}
    nas.search(SPACE, SCORE, evals=8, **options)

    def interrupted(subnets):
        raise KeyboardInterrupt

    interrupted.name, interrupted.settings = SCORE.name, SCORE.settings
    try:
        nas.search(SPACE, interrupted, evals=16, resume=True, **options)
    except KeyboardInterrupt:
        assert run_status(tmp_path)["state"] == "stopped"
