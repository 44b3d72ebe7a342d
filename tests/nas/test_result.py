"""The outcome of a search."""

import sys
from pathlib import Path

import pytest

import nas
from nas.report.html.files import write_html
from nas.report.run import read_report
from nas.result import SearchResult, refuse_failures
from nas.testing.worlds import evaluation, params_of, tiny_space
from search_spaces import CheckFailed, NasError, Subnet, space_from_dict
from search_spaces.synthetic import SyntheticScore

SPACE = tiny_space()
PARAMS = params_of(SPACE)
SCORE = SyntheticScore(SPACE)
A, B = Subnet(128, (2, 4), (1.5, 3.5)), Subnet(192, (4, 4), (1.5, 1.5))


@pytest.fixture(scope="module")
def result():
    def score(subnets):
        if any(subnet.heads[0] == 2 and subnet.depth == 2 for subnet in subnets):
            raise ValueError("<b>no slice</b>")
        return SCORE(subnets)

    return nas.search(SPACE, score, {"params": PARAMS, "a<b": PARAMS}, ["params<=400K"], evals=30)


def test_a_result_is_shown_in_a_few_lines(result, tmp_path):
    lines = repr(result).splitlines()
    failed = sum(e.status == "failed" for e in result.evaluations)
    assert failed
    assert lines[0] == f"SearchResult: 30 evaluations of test by exact ({failed} failed)"
    assert lines[1].startswith("  best     score ")
    assert lines[1].endswith(repr(result.best.subnet))
    assert lines[2].endswith(repr(result.uniform.subnet))
    assert lines[3] == f"  front    {len(result.front)} subnets against params"
    kept = nas.search(SPACE, SCORE, out=tmp_path / "a", evals=4)
    assert repr(kept).splitlines()[4] == f"  folder   {tmp_path / 'a'}"
    assert len(repr(result)) < 500
    assert repr(SearchResult(None, [], [])).splitlines()[1] == "  best     none"


def test_evaluations_and_subnets_can_be_pasted():
    wide = Subnet(192, (6,) * 12, (2.5,) * 12, (32, 64))
    assert repr(wide) == "Subnet(192, (6,) * 12, (2.5,) * 12, (32, 64))"
    assert repr(A) == "Subnet(128, (2, 4), (1.5, 3.5))"
    made = nas.Evaluation(3, A, {"params": 7}, None, "failed", 'it\'s "off"', origin="optuna: trial 1 of a")
    assert repr(evaluation(0, B)) == "Evaluation(0, Subnet(192, (4, 4), (1.5, 1.5)), {'params': 1}, 0.5)"
    for each in (wide, A, made):
        assert eval(repr(each), {"Subnet": Subnet, "Evaluation": nas.Evaluation}) == each


def test_notebooks_get_a_table_without_markup_of_others(result):
    html = result._repr_html_()
    assert "a&lt;b" in html
    assert "a<b" not in html
    assert html.count("<tr>") == 1 + 2 + min(10, len(result.front))
    assert f"<td>{result.best.subnet.id}</td>" in html
    assert "none" not in SearchResult(None, [], [])._repr_html_()


def test_a_data_frame_has_a_row_for_each_evaluation(result):
    frame = result.to_pandas()
    assert list(frame.index) == list(range(30))
    best = frame.loc[result.best.index]
    assert (best.score, best.params, best.id) == (result.best.score, result.best.costs["params"], result.best.subnet.id)
    assert Subnet(int(best.embed_dim), best.heads, best.ffn_ratios) == result.best.subnet
    assert frame[frame.front].index.tolist() == sorted(e.index for e in result.front)
    assert set(frame.status) == {"ok", "failed"}
    assert set(frame.error.dropna()) == {"ValueError: <b>no slice</b>"}
    assert str(frame["at"].dt.tz) == "UTC"
    assert nas.search(SPACE, SCORE, evals=0).to_pandas().empty


def test_the_front_is_plotted_with_the_best_and_the_best_uniform_subnet(result):
    figure = result.plot_front()
    at = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert at["on the front"][1] == [e.score for e in result.front]
    for word, each in (("best", result.best), ("uniform", result.uniform)):
        assert ([each.costs["params"]], [each.score]) in [place for name, place in at.items() if word in name]
    assert '"@' not in figure.to_json(), "no colour is left unpainted"
    odd = result.plot_front("a<b").layout
    assert "&lt;" in odd.xaxis.title.text
    assert "<" not in odd.title.text
    with pytest.raises(NasError, match="cost must be one of params, a<b; got 'watts'"):
        result.plot_front("watts")
    with pytest.raises(NasError, match="there is no front to plot"):
        nas.search(SPACE, SCORE, evals=0).plot_front()


def test_a_result_is_a_study(result):
    study = result.to_optuna()
    assert (study.best_value, study.best_trial.number) == (result.best.score, result.best.index)
    assert len(study.trials) == 30


@pytest.mark.parametrize(
    ("module", "call", "message"),
    [
        ("pandas", SearchResult.to_pandas, r"to_pandas\(\) needs pandas: pip install 'lighthubert-nas\[pandas\]'"),
        ("plotly", SearchResult.plot_front, r"plot_front\(\) needs plotly: pip install 'lighthubert-nas\[report\]'"),
        ("optuna", SearchResult.to_optuna, r"to_optuna\(\) needs optuna: pip install 'lighthubert-nas\[optuna\]'"),
    ],
)
def test_what_is_missing_is_named(result, module, call, message, monkeypatch):
    monkeypatch.delitem(sys.modules, "nas.study", raising=False)
    monkeypatch.delitem(sys.modules, "plotly.graph_objects", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NasError, match=message):
        call(result)


def test_settings_are_those_of_run_json(tmp_path):
    options = {"costs": {"params": PARAMS}, "evals": 12, "seed": 3}
    kept, memory = nas.search(SPACE, SCORE, out=tmp_path, **options), nas.search(SPACE, SCORE, **options)
    assert kept.settings == read_report(tmp_path).settings
    for key in ("space", "searcher", "costs", "seed", "uniform", "front_cost"):
        assert memory.settings[key] == kept.settings[key]
    assert isinstance(kept.folder, Path)


def test_a_search_of_nothing_but_failures_is_an_error_with_the_first_of_them(tmp_path):
    def broken(subnets):
        raise RuntimeError("CUDA is away")

    with pytest.raises(nas.NothingScored, match="all 5 evaluations failed; the first: RuntimeError: CUDA is away") as e:
        nas.search(SPACE, broken, {}, evals=5, out=tmp_path)
    assert e.value.exit_status == CheckFailed.exit_status == 4
    assert len(e.value.result.evaluations) == len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 5
    assert nas.search(SPACE, broken, evals=0).best is None


def test_failures_are_told_from_measured_costs_over_their_budgets():
    over, failed = evaluation(0, A, None, status="over budget"), evaluation(1, B, None, status="failed", error="off")
    for evaluations, message in (
        ([over], "all 1 evaluations are over a budget on a measured cost"),
        ([over, failed], "1 evaluations failed and 1 are over a budget; the first failure: off"),
    ):
        with pytest.raises(nas.NothingScored, match=message):
            refuse_failures(SearchResult(None, [], evaluations))
    refuse_failures(SearchResult(evaluation(2, A), [], [over, failed]))
    refuse_failures(SearchResult(None, [], []))


def test_a_front_end_that_was_chosen_is_shown_wherever_the_subnet_is(tmp_path):
    space = space_from_dict({**SPACE.to_dict(), "front_ends": [16, 32]})
    fewest = nas.search(space, lambda subnet: -sum(subnet.front_end or (32,)), evals=30, out=tmp_path / "a")
    assert fewest.best.subnet.front_end == (16,)
    assert "front end</th>" in fewest._repr_html_()
    page = write_html([tmp_path / "a"], tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (">16 channels", "front end 16 (choices 16, 32)", "br\\u003efront end 16"):
        assert text in page
    assert "front end" not in nas.search(SPACE, SCORE, evals=4)._repr_html_()
