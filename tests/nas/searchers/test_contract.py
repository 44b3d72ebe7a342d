"""What every searcher in SEARCHERS must pass."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import nas
from evaluators.scores import synthetic
from nas import SEARCHERS, get_searcher
from search_spaces import Feasible, NasError, get_space
from tests.nas.helpers import Counting, content, params_of, tiny_space

SPACE = tiny_space()
PARAMS = params_of(SPACE)
SCORE = synthetic(SPACE, seed=1)
BUDGET = int(np.median([PARAMS.of(subnet) for subnet in SPACE]))

pytestmark = pytest.mark.parametrize("searcher", list(SEARCHERS))


def search(searcher, score=SCORE, space=SPACE, budget=BUDGET, **options):
    options = {"evals": 40, "batch": 8, "seed": 5, **options}
    costs = {"params": PARAMS if space is SPACE else params_of(space)}
    return nas.search(space, score, costs, [f"params<={budget}"], searcher, **options)


@pytest.mark.parametrize("objectives", [("score",), ("score", "params")])
def test_the_same_seed_gives_the_same_run_and_another_seed_another(searcher, objectives):
    runs = [content(search(searcher, objectives=objectives, seed=seed).evaluations) for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("objectives", [("score",), ("score", "params")])
@pytest.mark.parametrize("evals", [1, 7, 60, 150])
def test_nothing_infeasible_and_nothing_twice(searcher, objectives, evals):
    evaluations = search(searcher, objectives=objectives, evals=evals).evaluations
    assert len({e.subnet for e in evaluations}) == len(evaluations) == evals
    assert all(e.subnet in SPACE and PARAMS.of(e.subnet) == e.costs["params"] <= BUDGET for e in evaluations)


@pytest.mark.parametrize("cut", [1, 8, 13, 16, 39])
def test_a_resumed_run_equals_the_undisturbed_one(searcher, cut, tmp_path):
    whole = search(searcher, out=tmp_path / "whole")
    part = tmp_path / "part"
    part.mkdir()
    for name in ("run.json", "ledger.jsonl"):
        (part / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    lines = (part / "ledger.jsonl").read_text().splitlines(keepends=True)
    (part / "ledger.jsonl").write_text("".join(lines[:cut]) + lines[cut][:20])

    score = Counting(SCORE)
    resumed = search(searcher, score_named(score), out=part, resume=True)
    assert content(resumed.evaluations) == content(whole.evaluations)
    assert len(score.scored) == 40 - cut, "nothing is done twice"


def score_named(score):
    score.name, score.settings, score.higher_is_better = SCORE.name, SCORE.settings, True
    return score


def test_more_evaluations_on_resume_continue_the_run(searcher, tmp_path):
    first = search(searcher, evals=10, out=tmp_path / "a")
    more = search(searcher, evals=30, out=tmp_path / "a", resume=True)
    assert content(more.evaluations[:10]) == content(first.evaluations)
    assert len({e.subnet for e in more.evaluations}) == 30
    again = search(searcher, evals=30, out=tmp_path / "a", resume=True)
    assert again.evaluations == more.evaluations


def test_nan_and_raising_scores_are_recorded_and_survived(searcher):
    def score(subnets):
        if any(subnet.heads[0] == 2 for subnet in subnets):
            raise RuntimeError("no such slice")
        return [float("nan") if subnet.heads[0] == 4 else value for subnet, value in zip(subnets, SCORE(subnets))]

    result = search(searcher, score, budget=10**9, evals=60)
    errors = Counter(e.error for e in result.evaluations)
    assert len(result.evaluations) == 60
    assert set(errors) == {None, "score is NaN", "RuntimeError: no such slice"}
    assert result.best.subnet.heads[0] == 6
    assert all(e.ok for e in result.front)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_score_that_says_nothing_ends_all_the_same(searcher, value):
    result = search(searcher, lambda subnets: [value] * len(subnets))
    assert len(result.evaluations) == 40
    assert (result.best is None) == (value != value)


def test_zero_and_one_evaluation(searcher, tmp_path):
    none = search(searcher, evals=0, out=tmp_path / "none")
    assert (none.best, none.front, none.evaluations) == (None, [], [])
    one = search(searcher, evals=1)
    assert one.best is one.evaluations[0]
    assert one.front == [one.best]


@pytest.mark.parametrize("objectives", [("score",), ("score", "params")])
def test_a_small_space_is_exhausted_and_then_the_search_ends(searcher, objectives):
    fits = {subnet for subnet in SPACE if PARAMS.of(subnet) <= BUDGET}
    result = search(searcher, evals=10_000, objectives=objectives)
    assert {e.subnet for e in result.evaluations} == fits
    assert result.best.score == max(SCORE(list(fits)))


def test_one_subnet_fits(searcher):
    least = PARAMS.range()[0]
    result = search(searcher, budget=least, evals=5)
    assert [e.subnet for e in result.evaluations] == [subnet for subnet in SPACE if PARAMS.of(subnet) == least]


def test_lower_is_better_where_the_score_says_so(searcher):
    def distance(subnets):
        return [-value for value in SCORE(subnets)]

    distance.higher_is_better = False
    result, mirrored = search(searcher, distance, evals=100), search(searcher, evals=100)
    assert [e.subnet for e in result.evaluations] == [e.subnet for e in mirrored.evaluations]
    assert result.best.subnet == mirrored.best.subnet
    assert [e.subnet for e in result.front] == [e.subnet for e in mirrored.front]


def test_ask_goes_on_without_being_told(searcher):
    made = get_searcher(searcher)(Feasible(SPACE), nas.Objective(), np.random.default_rng(0), 20)
    subnets = [subnet for _ in range(10) for subnet in made.ask(30)]
    assert len(set(subnets)) == len(subnets) == 300


def test_a_space_of_10_to_the_12_is_searched_as_any_other(searcher):
    space = get_space("lighthubert-small")
    params = params_of(space)
    low, high = params.range()
    budget = low + (high - low) // 10
    result = search(searcher, synthetic(space), space, budget, evals=128)
    assert len({e.subnet for e in result.evaluations}) == 128
    assert all(e.costs["params"] <= budget for e in result.evaluations)


def test_the_name_of_the_searcher_is_checked(searcher):
    with pytest.raises(NasError, match=f"unknown searcher '{searcher}x'; known: random, evolution"):
        search(searcher + "x")
