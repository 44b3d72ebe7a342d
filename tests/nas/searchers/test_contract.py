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
SLOW = {"optuna-gp": 12}  # up to half a second a proposal: two beyond its initial design of 10

pytestmark = pytest.mark.parametrize("searcher", list(SEARCHERS))


def search(searcher, score=SCORE, space=SPACE, budget=BUDGET, **options):
    options = {"evals": spent(searcher, 40), "batch": 2 if searcher in SLOW else 8, "seed": 5, **options}
    costs = {"params": PARAMS if space is SPACE else params_of(space)}
    return nas.search(space, score, costs, [f"params<={budget}"], searcher, **options)


def spent(searcher, evals):
    return min(evals, SLOW.get(searcher, evals))


def all_spent(searcher, evaluations, evals):
    """Whether every evaluation was used; `exact` may end where it knows that nothing is to be gained."""
    return len(evaluations) == evals or (searcher == "exact" and 64 <= len(evaluations) < evals)


@pytest.mark.parametrize("objectives", [("score",), ("score", "params")])
def test_the_same_seed_gives_the_same_run_and_another_seed_another(searcher, objectives):
    runs = [content(search(searcher, objectives=objectives, seed=seed).evaluations) for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("objectives", [("score",), ("score", "params")])
@pytest.mark.parametrize("evals", [1, 7, 100])
def test_nothing_infeasible_and_nothing_twice(searcher, objectives, evals):
    evals = spent(searcher, evals)
    evaluations = search(searcher, objectives=objectives, evals=evals).evaluations
    assert len({e.subnet for e in evaluations}) == len(evaluations)
    assert all_spent(searcher, evaluations, evals)
    assert all(e.subnet in SPACE and PARAMS.of(e.subnet) == e.costs["params"] <= BUDGET for e in evaluations)


@pytest.mark.parametrize(
    ("objectives", "cut"),
    [(("score",), 1), (("score",), 8), (("score",), 39), (("score", "params"), 13), (("score", "params"), 16)],
)
def test_a_resumed_run_equals_the_undisturbed_one(searcher, objectives, cut, tmp_path):
    evals = spent(searcher, 40)
    cut = min(cut, evals - 1)
    whole = search(searcher, out=tmp_path / "whole", objectives=objectives)
    part = tmp_path / "part"
    part.mkdir()
    for name in ("run.json", "ledger.jsonl"):
        (part / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    lines = (part / "ledger.jsonl").read_text().splitlines(keepends=True)
    (part / "ledger.jsonl").write_text("".join(lines[:cut]) + lines[cut][:20])

    score = Counting(SCORE)
    resumed = search(searcher, score_named(score), out=part, resume=True, objectives=objectives)
    assert content(resumed.evaluations) == content(whole.evaluations)
    assert len(score.scored) == evals - cut, "nothing is done twice"


def score_named(score):
    score.name, score.settings, score.higher_is_better = SCORE.name, SCORE.settings, True
    return score


def test_more_evaluations_on_resume_continue_the_run(searcher, tmp_path):
    evals = spent(searcher, 30)
    first = search(searcher, evals=10, out=tmp_path / "a")
    more = search(searcher, evals=evals, out=tmp_path / "a", resume=True)
    assert content(more.evaluations[:10]) == content(first.evaluations)
    assert len({e.subnet for e in more.evaluations}) == evals
    again = search(searcher, evals=evals, out=tmp_path / "a", resume=True)
    assert again.evaluations == more.evaluations


def test_nan_and_raising_scores_are_recorded_and_survived(searcher):
    def score(subnets):
        if any(subnet.heads[0] == 2 for subnet in subnets):
            raise RuntimeError("no such slice")
        return [float("nan") if subnet.heads[0] == 4 else value for subnet, value in zip(subnets, SCORE(subnets))]

    evals = 18 if searcher in SLOW else 60  # ten are scored
    result = search(searcher, score, budget=10**9, evals=evals)
    errors = Counter(e.error for e in result.evaluations)
    assert len(result.evaluations) == evals
    assert set(errors) == {None, "score is NaN", "RuntimeError: no such slice"}
    assert result.best.subnet.heads[0] == 6
    assert all(e.ok for e in result.front)


@pytest.mark.parametrize("objectives", [("score",), ("score", "params")])
@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_score_that_says_nothing_ends_all_the_same(searcher, objectives, value):
    result = search(searcher, lambda subnets: [value] * len(subnets), objectives=objectives)
    assert len(result.evaluations) == spent(searcher, 40)
    assert (result.best is None) == (value != value)


def test_zero_and_one_evaluation(searcher, tmp_path):
    none = search(searcher, evals=0, out=tmp_path / "none")
    assert (none.best, none.front, none.evaluations) == (None, [], [])
    one = search(searcher, evals=1)
    assert one.best is one.evaluations[0]
    assert one.front == [one.best]


@pytest.mark.parametrize("objectives", [("score",), ("score", "params")])
def test_a_small_space_is_exhausted_and_then_the_search_ends(searcher, objectives):
    budget = sorted(PARAMS.of(subnet) for subnet in SPACE)[11] if searcher in SLOW else BUDGET
    fits = {subnet for subnet in SPACE if PARAMS.of(subnet) <= budget}
    result = search(searcher, budget=budget, evals=10_000, objectives=objectives)
    assert {e.subnet for e in result.evaluations} <= fits
    assert all_spent(searcher, result.evaluations, len(fits))
    assert result.best.score == max(SCORE(list(fits)))


def test_one_subnet_fits(searcher):
    least = PARAMS.range()[0]
    result = search(searcher, budget=least, evals=5)
    assert [e.subnet for e in result.evaluations] == [subnet for subnet in SPACE if PARAMS.of(subnet) == least]


def test_lower_is_better_where_the_score_says_so(searcher):
    def distance(subnets):
        return [-value for value in SCORE(subnets)]

    distance.higher_is_better = False
    evals = spent(searcher, 100)
    result, mirrored = search(searcher, distance, evals=evals), search(searcher, evals=evals)
    assert [e.subnet for e in result.evaluations] == [e.subnet for e in mirrored.evaluations]
    assert result.best.subnet == mirrored.best.subnet
    assert [e.subnet for e in result.front] == [e.subnet for e in mirrored.front]


def test_ask_goes_on_without_being_told(searcher):
    made = get_searcher(searcher)(Feasible(SPACE), nas.Objective(), np.random.default_rng(0), 20)
    subnets = []
    while len(subnets) < 300:
        asked = made.ask(30)  # a searcher may propose fewer, but some while any are left
        assert 0 < len(asked) <= 30
        subnets += asked
    assert len(set(subnets)) == len(subnets)


def test_a_space_of_10_to_the_12_is_searched_as_any_other(searcher):
    space = get_space("lighthubert-small")
    params = params_of(space)
    low, high = params.range()
    budget = low + (high - low) // 10
    evals = spent(searcher, 128)
    result = search(searcher, synthetic(space), space, budget, evals=evals)
    assert all_spent(searcher, {e.subnet for e in result.evaluations}, evals)
    assert all(e.costs["params"] <= budget for e in result.evaluations)


def test_measured_costs_over_their_budget_are_survived(searcher):
    class Milliseconds:
        def of(self, subnet):
            return float(subnet.depth)

    costs, budgets = {"params": PARAMS, "ms": Milliseconds()}, [f"params<={BUDGET}", "ms<=2.5"]
    evals = spent(searcher, 40)
    for objectives in (("score",), ("score", "ms")):
        result = nas.search(SPACE, SCORE, costs, budgets, searcher, evals, batch=4, objectives=objectives)
        assert {e.status for e in result.evaluations} == {"ok", "over budget"}
        assert result.best.subnet.depth == 2
        assert len(result.evaluations) == evals


def test_nothing_is_printed_or_left_changed(searcher, capfd):
    state = np.random.get_state()[1].tolist()  # noqa: NPY002 - the global one
    search(searcher, evals=12)
    assert capfd.readouterr() == ("", "")
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_the_name_of_the_searcher_is_checked(searcher):
    with pytest.raises(NasError, match=f"unknown searcher '{searcher}x'; known: {', '.join(SEARCHERS)}"):
        search(searcher + "x")
