"""The contract that every searcher must pass, as a class of pytest tests.

from nas.testing.searchers import SearcherContract

class TestAnnealing(SearcherContract):
    searcher = "annealing"  # a name in SEARCHERS: built in, or an entry point of your package
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from nas.loop import search
from nas.objective import Objective
from nas.result import NothingScored, SearchResult
from nas.runs.ledger import Evaluation
from nas.searchers import get_searcher
from nas.testing.worlds import Counting, Score, content, evaluation, params_of, tiny_space
from search_spaces import AdditiveTable, Cost, Feasible, Space, Subnet, get_space
from search_spaces.synthetic import SyntheticScore

__all__ = ["SearcherContract"]

SPACE = tiny_space()
PARAMS = params_of(SPACE)
SCORE = SyntheticScore(SPACE, seed=1)
BUDGET = int(np.median([PARAMS.of(subnet) for subnet in SPACE]))


def _named(score: Counting) -> Counting:
    """With the name and settings of `SCORE`, so that a run of the one is resumed with the other."""
    score.name, score.settings, score.higher_is_better = SCORE.name, SCORE.settings, True  # type: ignore[attr-defined]
    return score


def best_of(result: SearchResult) -> Evaluation:
    """The best, which there must be."""
    assert result.best is not None
    return result.best


def _global_state() -> str:
    return repr(np.random.get_state())  # noqa: NPY002 - the global one must not change


class SearcherContract:
    """Set `searcher`; `max_evals` if a proposal takes long; `ends_early` if the search may end before it is spent."""

    searcher: ClassVar[str]
    max_evals: ClassVar[int | None] = None
    ends_early: ClassVar[bool] = False

    @property
    def slow(self) -> bool:
        return self.max_evals is not None

    def search(
        self, score: Score = SCORE, space: Space = SPACE, budget: float = BUDGET, **options: object
    ) -> SearchResult:
        options = {"evals": self.spent(40), "batch": 2 if self.slow else 8, "seed": 5, **options}
        costs = {"params": PARAMS if space is SPACE else params_of(space)}
        return search(space, score, costs, [f"params<={budget}"], self.searcher, **options)  # type: ignore[arg-type]

    def spent(self, evals: int) -> int:
        return evals if self.max_evals is None else min(evals, self.max_evals)

    def all_spent(self, evaluations: Sequence[Evaluation] | set[Subnet], evals: int) -> bool:
        """Whether every evaluation was used, or the search ended early because nothing more can be gained."""
        return len(evaluations) == evals or (self.ends_early and 64 <= len(evaluations) < evals)

    @pytest.mark.parametrize("objectives", [("score",), ("score", "params")])
    def test_the_same_seed_gives_the_same_run_and_another_seed_another(self, objectives: tuple[str, ...]) -> None:
        runs = [content(self.search(objectives=objectives, seed=seed).evaluations) for seed in (5, 5, 6)]
        assert runs[0] == runs[1] != runs[2]

    @pytest.mark.parametrize("objectives", [("score",), ("score", "params")])
    @pytest.mark.parametrize("evals", [1, 7, 100])
    def test_nothing_infeasible_and_nothing_twice(self, objectives: tuple[str, ...], evals: int) -> None:
        evals = self.spent(evals)
        evaluations = self.search(objectives=objectives, evals=evals).evaluations
        assert len({e.subnet for e in evaluations}) == len(evaluations)
        assert self.all_spent(evaluations, evals)
        assert all(e.subnet in SPACE and PARAMS.of(e.subnet) == e.costs["params"] <= BUDGET for e in evaluations)

    @pytest.mark.parametrize(
        ("objectives", "cut"),
        [(("score",), 1), (("score",), 8), (("score",), 39), (("score", "params"), 13), (("score", "params"), 16)],
    )
    def test_a_resumed_run_equals_the_undisturbed_one(
        self, objectives: tuple[str, ...], cut: int, tmp_path: Path
    ) -> None:
        evals = self.spent(40)
        cut = min(cut, evals - 1)
        whole = self.search(out=tmp_path / "whole", objectives=objectives)
        part = tmp_path / "part"
        part.mkdir()
        for name in ("run.json", "ledger.jsonl"):
            (part / name).write_bytes((tmp_path / "whole" / name).read_bytes())
        lines = (part / "ledger.jsonl").read_text().splitlines(keepends=True)
        (part / "ledger.jsonl").write_text("".join(lines[:cut]) + lines[cut][:20])

        score = Counting(SCORE)
        resumed = self.search(_named(score), out=part, resume=True, objectives=objectives)
        assert content(resumed.evaluations) == content(whole.evaluations)
        assert len(score.scored) == evals - cut, "nothing is done twice"

    def test_more_evaluations_on_resume_continue_the_run(self, tmp_path: Path) -> None:
        evals = self.spent(30)
        first = self.search(evals=10, out=tmp_path / "a")
        more = self.search(evals=evals, out=tmp_path / "a", resume=True)
        assert content(more.evaluations[:10]) == content(first.evaluations)
        assert len({e.subnet for e in more.evaluations}) == evals
        again = self.search(evals=evals, out=tmp_path / "a", resume=True)
        assert again.evaluations == more.evaluations

    def test_nan_and_raising_scores_are_recorded_and_survived(self) -> None:
        def score(subnets: list[Subnet]) -> list[float]:
            if any(subnet.heads[0] == 2 for subnet in subnets):
                raise RuntimeError("no such slice")
            return [float("nan") if subnet.heads[0] == 4 else value for subnet, value in zip(subnets, SCORE(subnets))]

        evals = 18 if self.slow else 60  # ten are scored
        result = self.search(score, budget=10**9, evals=evals)
        errors = Counter(e.error for e in result.evaluations)
        assert len(result.evaluations) == evals
        assert set(errors) == {None, "score is NaN", "RuntimeError: no such slice"}
        assert best_of(result).subnet.heads[0] == 6
        assert all(e.ok for e in result.front)

    @pytest.mark.parametrize("objectives", [("score",), ("score", "params")])
    @pytest.mark.parametrize("value", [0.0, float("nan")])
    def test_a_score_that_says_nothing_ends_all_the_same(self, objectives: tuple[str, ...], value: float) -> None:
        try:
            result = self.search(lambda subnets: [value] * len(subnets), objectives=objectives)
        except NothingScored as error:
            result = error.result
        assert len(result.evaluations) == self.spent(40)
        assert (result.best is None) == (value != value)

    def test_zero_and_one_evaluation(self, tmp_path: Path) -> None:
        none = self.search(evals=0, out=tmp_path / "none")
        assert (none.best, none.front, none.evaluations) == (None, [], [])
        one = self.search(evals=1)
        assert one.best is one.evaluations[0]
        assert one.front == [one.best]

    @pytest.mark.parametrize("objectives", [("score",), ("score", "params")])
    def test_a_small_space_is_exhausted_and_then_the_search_ends(self, objectives: tuple[str, ...]) -> None:
        budget = sorted(PARAMS.of(subnet) for subnet in SPACE)[11] if self.slow else BUDGET
        fits = {subnet for subnet in SPACE if PARAMS.of(subnet) <= budget}
        result = self.search(budget=budget, evals=10_000, objectives=objectives)
        assert {e.subnet for e in result.evaluations} <= fits
        assert self.all_spent(result.evaluations, len(fits))
        assert best_of(result).score == max(SCORE(list(fits)))

    def test_one_subnet_fits(self) -> None:
        least = PARAMS.range()[0]
        result = self.search(budget=least, evals=5)
        assert [e.subnet for e in result.evaluations] == [subnet for subnet in SPACE if PARAMS.of(subnet) == least]

    def test_lower_is_better_where_the_score_says_so(self) -> None:
        def distance(subnets: list[Subnet]) -> list[float]:
            return [-value for value in SCORE(subnets)]

        distance.higher_is_better = False  # type: ignore[attr-defined]
        evals = self.spent(100)
        result, mirrored = self.search(distance, evals=evals), self.search(evals=evals)
        assert [e.subnet for e in result.evaluations] == [e.subnet for e in mirrored.evaluations]
        assert best_of(result).subnet == best_of(mirrored).subnet
        assert [e.subnet for e in result.front] == [e.subnet for e in mirrored.front]

    def test_what_is_known_beforehand_is_not_proposed_again(self) -> None:
        feasible = Feasible(SPACE, [(PARAMS, BUDGET)])
        made = get_searcher(self.searcher)(feasible, Objective(), np.random.default_rng(0), 20)
        known = [evaluation(i, subnet, SCORE([subnet])[0]) for i, subnet in enumerate(list(SPACE)[::9])]
        made.start_from(known)
        subnets = made.ask(10)
        assert subnets
        assert not set(subnets) & {e.subnet for e in known}
        assert all(feasible.contains(subnet) for subnet in subnets)

    def test_ask_goes_on_without_being_told(self) -> None:
        made = get_searcher(self.searcher)(Feasible(SPACE), Objective(), np.random.default_rng(0), 20)
        subnets: list[Subnet] = []
        while len(subnets) < 300:
            asked = made.ask(30)  # a searcher may propose fewer, but some while any are left
            assert 0 < len(asked) <= 30
            subnets += asked
        assert len(set(subnets)) == len(subnets)

    def test_a_space_of_10_to_the_12_is_searched_as_any_other(self) -> None:
        space = get_space("lighthubert-small")
        params = params_of(space)
        low, high = params.range()
        budget = low + (high - low) // 10
        evals = self.spent(128)
        result = self.search(SyntheticScore(space), space, budget, evals=evals)
        assert self.all_spent({e.subnet for e in result.evaluations}, evals)
        assert all(e.costs["params"] <= budget for e in result.evaluations)

    def test_measured_costs_over_their_budget_are_survived(self) -> None:
        class Milliseconds:
            def of(self, subnet: Subnet) -> float:
                return float(subnet.depth)

        costs: dict[str, Cost | AdditiveTable] = {"params": PARAMS, "ms": Milliseconds()}
        budgets = [f"params<={BUDGET}", "ms<=2.5"]
        evals = self.spent(40)
        for objectives in (("score",), ("score", "ms")):
            result = search(SPACE, SCORE, costs, budgets, self.searcher, evals, batch=4, objectives=objectives)
            assert {e.status for e in result.evaluations} == {"ok", "over budget"}
            assert best_of(result).subnet.depth == 2
            assert len(result.evaluations) == evals

    def test_nothing_is_printed_or_left_changed(self, capfd: pytest.CaptureFixture[str]) -> None:
        state = _global_state()
        self.search(evals=12)
        assert capfd.readouterr() == ("", "")
        assert _global_state() == state
