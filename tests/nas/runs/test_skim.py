"""A glance at a ledger says what reading all of it says."""

import pytest

import nas
from evaluators.scores import synthetic
from nas.objective import Objective
from nas.runs.ledger import read_ledger
from nas.runs.skim import skim_ledger
from nas.testing.worlds import params_of, tiny_space
from search_spaces import RunError

SPACE = tiny_space()


@pytest.mark.parametrize("maximize", [True, False])
def test_it_agrees_with_the_whole_ledger(tmp_path, maximize):
    def score(subnets):
        values = synthetic(SPACE, seed=1)(subnets)
        return [float("nan") if i % 5 == 3 else value for i, value in enumerate(values)]

    score.higher_is_better = maximize
    nas.search(SPACE, score, {"params": params_of(SPACE)}, (), "random", 70, out=tmp_path / "run")
    ledger = tmp_path / "run" / "ledger.jsonl"
    evaluations = read_ledger(ledger)
    skim = skim_ledger(ledger, maximize)
    assert skim.counts == {"ok": sum(e.ok for e in evaluations), "failed": sum(not e.ok for e in evaluations)}
    assert skim.best == Objective(maximize).best(evaluations)
    assert skim.recent == evaluations[-50:]
    with ledger.open("ab") as file:
        file.write(b'{"index":70,"id":"torn')
    assert skim_ledger(ledger, maximize) == skim


def test_an_empty_ledger_and_a_foreign_line(tmp_path):
    assert skim_ledger(tmp_path / "none.jsonl", True).best is None
    (tmp_path / "l.jsonl").write_text('{"x": 1}\n')
    with pytest.raises(RunError, match=r"line 1 of .* is not an evaluation"):
        skim_ledger(tmp_path / "l.jsonl", True)
