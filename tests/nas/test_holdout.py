"""The winner named by speech that the search did not use."""

import json
from zlib import crc32

import pytest

import nas
from evaluators.costs import params
from nas.holdout import FINALISTS, held_out_finalists, summed_up_finalists
from nas.objective import Objective
from nas.report.run import read_report
from nas.report.summary import summary
from search_spaces import NasError, get_space
from tests.spaces import COARSE


class Fitted:
    """A score with luck in it, and the same without."""

    higher_is_better = True
    source = "eight other utterances"

    def __init__(self, space, luck):
        self.table, self.luck = params(space).table, luck

    def __call__(self, subnets):
        return [float(self.table.of(each)) * (1 + self.luck * (crc32(each.id.encode()) % 7)) for each in subnets]

    @property
    def held_out(self):
        return Fitted(self.table.space, 0.0) if self.luck else None


def test_the_best_on_other_speech_wins(tmp_path):
    space = COARSE
    score, costs = Fitted(space, 0.1), {"params": params(space)}
    arguments = {"costs": costs, "budgets": ("params<=2.5M",), "evals": 40, "seed": 0, "searcher": "random"}
    plain = nas.search(space, score, **arguments)
    result = nas.search(space, score, out=tmp_path / "run", holdout=True, **arguments)
    assert [e.score for e in result.evaluations] == [e.score for e in plain.evaluations]
    finalists = held_out_finalists(result.evaluations, Objective(), score.held_out)
    assert result.best.subnet == finalists[0].subnet != plain.best.subnet
    assert result.best.score == next(e.score for e in plain.evaluations if e.subnet == result.best.subnet)
    assert FINALISTS <= len(finalists) <= FINALISTS + 4
    assert sum(e.subnet.uniform for e in finalists) >= 4
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["holdout"] == summed_up_finalists(finalists, result.evaluations, "eight other utterances")
    assert read_report(tmp_path / "run").best.subnet == result.best.subnet
    assert summary(tmp_path / "run")["holdout"]["winner"] == result.best.index
    again = nas.search(space, score, out=tmp_path / "run", resume=True, holdout=True, **arguments)
    assert again.best.subnet == result.best.subnet


def test_a_score_without_other_speech_is_refused():
    space = get_space("hubert-tiny")
    with pytest.raises(NasError, match="holdout=True needs a score with speech set apart"):
        nas.search(space, Fitted(space, 0.0), holdout=True, evals=1)


def test_of_nothing_there_is_no_best():
    assert held_out_finalists([], Objective(), lambda subnets: []) == []
    assert summed_up_finalists([], [], "") is None
