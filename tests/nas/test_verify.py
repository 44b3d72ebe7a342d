"""What is measured again at the end of a search decides which candidate wins."""

import json

import pytest

import nas
from nas.report.summary import summary
from nas.testing.worlds import params_of, tiny_space
from search_spaces import AdditiveTable, CheckFailed

SPACE = tiny_space()
PARAMS = params_of(SPACE)
TABLE = AdditiveTable(SPACE, "latency_ms", "ms", PARAMS.constant / 1e4, tuple(t / 1e4 for t in PARAMS.layers))


class Predicted:
    """A cost whose table is a prediction, and whose measurements are `real` times as much."""

    name, unit, table = "latency_ms", "ms", TABLE

    def __init__(self, real):
        self.real, self.asked = real, []

    def of(self, subnet):
        return TABLE.of(subnet)

    def verify(self, subnet, limit):
        self.asked.append(subnet)
        ms = TABLE.of(subnet) * self.real(subnet)
        return {
            "predicted_ms": TABLE.of(subnet), "bound_ms": TABLE.of(subnet), "measured_ms": ms, "limit_ms": limit,
            "measured_at_most_ms": 1.01 * ms, "measured_confidence": 0.975, "keeps": 1.01 * ms <= limit,
        }  # fmt: skip


def searched(cost, out, **settings):
    name = "latency_ms@onnxruntime,threads=2"
    budget = "latency_ms <= 40 @ onnxruntime, threads=2"
    return nas.search(SPACE, lambda s: [TABLE.of(x) for x in s], {name: cost}, [budget], evals=60, out=out, **settings)


def test_the_first_candidate_that_keeps_its_budget_wins(tmp_path):
    best = []
    cost = Predicted(lambda subnet: 1.2 if subnet == best[0] else 0.9)
    verify = cost.verify
    cost.verify = lambda subnet, limit: (best or best.append(subnet), verify(subnet, limit))[1]
    result = searched(cost, tmp_path)
    first, second = sorted(result.evaluations, key=lambda e: -e.score)[:2]
    assert cost.asked == [first.subnet, second.subnet]
    assert result.best == second
    written = json.loads((tmp_path / "best.json").read_text())
    assert written["id"] == second.subnet.id
    measured = written["measured"]["latency_ms<=40@onnxruntime,threads=2"]
    assert measured["measured_ms"] == pytest.approx(0.9 * measured["predicted_ms"])
    told = summary(tmp_path)
    assert told["best"]["id"] == second.subnet.id
    assert [c["id"] for c in told["verification"]["candidates"]] == [first.subnet.id, second.subnet.id]


def test_where_none_keeps_it_the_run_says_by_how_much_and_has_no_best(tmp_path):
    cost = Predicted(lambda subnet: 1.5)
    with pytest.raises(CheckFailed, match=r"none of the best 5 subnets keeps .* missed latency_ms<=40@onnx.* by \d+"):
        searched(cost, tmp_path)
    assert CheckFailed.exit_status == 4
    assert len(cost.asked) == 5
    assert not (tmp_path / "best.json").exists()
    assert summary(tmp_path)["best"] is None
    mended = searched(Predicted(lambda subnet: 0.9), tmp_path, resume=True)  # the same evaluations, measured again
    assert mended.best is not None
    assert (tmp_path / "best.json").exists()


def test_without_a_budget_on_it_nothing_is_measured():
    cost = Predicted(lambda subnet: 1.5)
    result = nas.search(SPACE, lambda s: [1.0] * len(s), {"latency_ms": cost}, evals=20)
    assert result.verification is None
    assert not cost.asked


def test_the_page_shows_what_was_measured(tmp_path):
    from nas.report.html import write_html

    searched(Predicted(lambda subnet: 0.9), tmp_path / "a")
    page = write_html([tmp_path / "a"], tmp_path / "a.html").read_text()
    assert "measured again" in page
    assert "latency_ms ≤ 40 on onnxruntime, threads=2" in page
