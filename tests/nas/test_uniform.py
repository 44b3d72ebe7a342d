"""Every search names the best uniform subnet, and is never worse."""

import json

import numpy as np
import pytest

import nas
from evaluators import costs
from evaluators.scores import synthetic
from nas.testing.worlds import params_of
from nas.uniform import EVERY, MAX_CANDIDATES, candidates
from search_spaces import Feasible, InfeasibleError, RunError
from search_spaces.proposals import proposed_space
from tests.spaces import COARSE

SPACE = COARSE
PARAMS = params_of(SPACE)
BUDGET = nas.Budget("params", 2_000_000)


def uniform_in(space, table, limit):
    """All uniform subnets within a limit, by hand."""
    found = []
    for subnet in (space.decode(row) for row in rows_of(space)):
        if table.of(subnet) <= limit:
            found.append(subnet)
    return found


def rows_of(space):
    for e in range(len(space.embed_dims)):
        for p in range(len(space.depths)):
            for h in range(len(space.heads[0])):
                for r in range(len(space.ffn_ratios[0])):
                    yield [e, p, *[h, r] * space.network.num_layers]


def test_the_uniform_subnets_are_counted_drawn_and_ranked_exactly():
    expected = uniform_in(SPACE, PARAMS, BUDGET.limit)
    within = Feasible(SPACE, [(PARAMS, BUDGET.limit)], uniform=True)
    assert within.count() == len(expected)
    assert set(within.ranked(PARAMS)) == set(expected)
    assert PARAMS.of(within.best(PARAMS)) == max(map(PARAMS.of, expected))
    assert all(within.contains(subnet) for subnet in expected)
    assert not within.contains(Feasible(SPACE).sample(nas_rng())[0])
    with pytest.raises(InfeasibleError, match="no uniform subnet of 'coarse' keeps params<=10"):
        Feasible(SPACE, [(PARAMS, 10)], uniform=True).sample(nas_rng())


def nas_rng():
    return np.random.default_rng(0)


def test_the_largest_candidates_come_first():
    within = Feasible(SPACE, [(PARAMS, BUDGET.limit)])
    found = candidates(within)
    assert len(found) <= MAX_CANDIDATES
    assert set(found) <= set(uniform_in(SPACE, PARAMS, BUDGET.limit))
    first = found[0]
    sizes = [(s.embed_dim, s.depth, s.heads[0], s.ffn_ratios[0]) for s in uniform_in(SPACE, PARAMS, BUDGET.limit)]
    own = (first.embed_dim, first.depth, first.heads[0], first.ffn_ratios[0])
    assert [size for size in sizes if all(a >= b for a, b in zip(size, own, strict=True))] == [own]
    fine = proposed_space(SPACE.network, "fine")
    table = costs.params(fine).table
    assert 0 < len(candidates(Feasible(fine, [(table, table.of(fine.largest) // 2)]))) <= MAX_CANDIDATES
    assert candidates(Feasible(SPACE, [(PARAMS, 10)])) == []


@pytest.mark.parametrize("searcher", ["exact", "random", "evolution", "local", "nsga2", "optuna-tpe"])
def test_a_winner_is_never_worse_than_the_best_uniform_subnet(searcher, tmp_path):
    score = synthetic(SPACE, seed=1, interactions=0.3)
    result = nas.search(SPACE, score, {"params": PARAMS}, [BUDGET], searcher, evals=64, out=tmp_path)
    assert len(result.evaluations) == 64
    alike = [e for e in result.evaluations if e.subnet.uniform]
    within = Feasible(SPACE, [(PARAMS, BUDGET.limit)])
    assert set(candidates(within)[: 64 // EVERY]) <= {e.subnet for e in alike}
    assert result.uniform.score == max(e.score for e in alike) <= result.best.score
    kept = json.loads((tmp_path / "run.json").read_text())["uniform"]
    assert kept["subnet"] == result.uniform.subnet.to_dict()
    assert kept["score"] == result.uniform.score
    assert kept["costs"] == result.uniform.costs


def test_only_uniform_subnets_are_searched_if_wanted(tmp_path):
    score = synthetic(SPACE, seed=1, interactions=0.3)
    expected = uniform_in(SPACE, PARAMS, BUDGET.limit)
    result = nas.search(SPACE, score, {"params": PARAMS}, [BUDGET], evals=200, uniform=True, out=tmp_path)
    assert {e.subnet for e in result.evaluations} == set(expected)
    assert result.best == result.uniform
    assert result.best.score == max(score(expected))
    with pytest.raises(RunError, match="cannot be resumed with another only_uniform"):
        nas.search(SPACE, score, {"params": PARAMS}, [BUDGET], evals=200, out=tmp_path, resume=True)


def test_without_a_uniform_subnet_there_is_none(tmp_path):
    from search_spaces import space_from_dict

    space = space_from_dict({
        "name": "s", "base": "hubert-tiny", "depths": [10],
        "heads": [[2, 4] if i % 2 else [6] for i in range(12)],
    })  # fmt: skip
    nas.search(space, synthetic(space), {"params": params_of(space)}, evals=4, out=tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["uniform"] is None


def test_every_report_states_it(tmp_path):
    from rich.console import Console

    from nas.report.html import write_html
    from nas.report.summary import report_run, summary

    score = synthetic(SPACE, seed=1, interactions=0.3)
    result = nas.search(SPACE, score, {"params": PARAMS}, [BUDGET], evals=32, out=tmp_path)
    console = Console(width=120, record=True)
    console.print(report_run(tmp_path))
    text = console.export_text()
    assert "Best uniform subnet" in text
    assert result.uniform.subnet.id in text
    assert summary(tmp_path)["uniform"]["id"] == result.uniform.subnet.id
    page = write_html([tmp_path], tmp_path / "report.html").read_text()
    assert "best uniform subnet" in page
    assert result.uniform.subnet.id in page
