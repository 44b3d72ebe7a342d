from __future__ import annotations

from dataclasses import replace

from nas.report.figures.search import front_figures
from nas.report.formatting import short
from nas.report.run import read_report
from nas.runs.ledger import Evaluation
from tests.nas.report.helpers import drawn, searched


def traces(figure):
    return {trace["name"].partition(":")[0]: trace for trace in figure.plot["data"]}


def test_the_front_shows_every_score_and_what_nothing_beats(tmp_path):
    plots, run = drawn(tmp_path)
    lines = traces(plots["front-params"])
    points = list(zip(lines["evaluated subnet"]["x"], lines["evaluated subnet"]["y"]))
    assert len(points) == run.counts["ok"]
    unbeaten = {(x, y) for x, y in points if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)}
    assert set(zip(lines["on the front"]["x"], lines["on the front"]["y"])) == unbeaten
    assert lines["best"]["y"] == [max(y for _, y in points)]
    assert run.best.subnet.id in lines["best"]["text"][0]
    assert [line["x0"] for line in plots["front-params"].plot["layout"]["shapes"]] == [400_000]
    assert plots["front-params"].plot["layout"]["annotations"][0]["text"] == "budget 400k"


def test_the_best_uniform_subnet_and_the_largest_are_marked(tmp_path):
    plots, run = drawn(tmp_path / "a")
    assert run.uniform.subnet.uniform
    assert run.uniform.subnet != run.best.subnet
    lines = traces(plots["front-params"])
    assert "largest subnet" not in lines, "it is over the budget"
    assert lines["best uniform"]["x"] == [run.uniform.costs["params"]]
    assert lines["best uniform"]["name"].endswith(f": {run.uniform.score:.4g} at {short(run.uniform.costs['params'])}")
    assert f"Best uniform: {run.uniform.score:.4g}" in plots["front-params"].alt
    largest = Evaluation(-1, run.space.largest, {"params": 10**6}, 40.0)
    line = traces(front_figures(replace(run, largest=largest), run.best)["front-params"])["largest subnet"]
    assert line["x"] == [min(lines["evaluated subnet"]["x"]), max(lines["evaluated subnet"]["x"])]
    assert line["y"] == [40.0, 40.0]
    assert line["marker"]["size"] == [0, 0], "its cost is beyond the axis"


def test_a_subnet_that_is_several_of_them_is_marked_once(tmp_path):
    plots, run = drawn(tmp_path, budgets=())
    assert run.best.subnet == run.uniform.subnet == run.largest.subnet
    lines = traces(plots["front-params"])
    assert {"best, uniform", "largest subnet"} < lines.keys()
    assert not {"best", "best uniform"} & lines.keys()
    assert lines["largest subnet"]["marker"]["size"] == [0, 9], "and its line ends at it"


def test_the_line_of_the_front_goes_across_before_it_goes_up(tmp_path):
    plots, _ = drawn(tmp_path)
    lines = traces(plots["front-params"])
    front, points = lines["on the front"], lines["evaluated subnet"]
    assert lines["front"]["line"]["shape"] == "hv"
    assert lines["front"]["x"] == [*front["x"], max(points["x"])], "the last score is available at every higher cost"
    assert lines["front"]["y"] == [*front["y"], front["y"][-1]]


def test_every_cost_has_a_front_and_odd_names_make_no_paths(tmp_path):
    plots, _ = drawn(tmp_path, costs=("params", "../<b>x</b>", "macs"))
    assert [name for name in plots if name.startswith("front")] == ["front-params", "front-2", "front-macs"]
    odd = plots["front-2"].plot
    assert odd["layout"]["xaxis"]["title"]["text"] == "../&lt;b&gt;x&lt;/b&gt;"
    assert "<b>x</b>" not in odd["data"][0]["text"][0]


def test_a_line_of_convergence_for_each_run_that_scored_something(tmp_path):
    searched(tmp_path / "b", evals=5)
    searched(tmp_path / "none", score=lambda subnets: [float("nan")] * len(subnets), evals=2)
    others = [read_report(tmp_path / "b"), read_report(tmp_path / "none")]
    plots, run = drawn(tmp_path / "a", others)
    lines = plots["convergence"].plot["data"]
    assert [line["name"] for line in lines] == ["exact, seed 0 (a)", "exact, seed 0 (b)"]
    assert [line["x"][-1] for line in lines] == [30, 5], "a line goes on to the last evaluation"
    assert lines[0]["y"][-1] == run.best.score
