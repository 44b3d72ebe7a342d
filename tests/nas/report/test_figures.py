from __future__ import annotations

import pytest

import nas
from nas.report.figures import PALETTES, figures, paint, run_names, short
from nas.report.summary import summary
from nas.runs.folder import read_run
from nas.testing.worlds import params_of, tiny_space

SPACE = tiny_space()
CHOICES = [{"heads": 2, "ffn_ratio": 1.5, "effect": -0.02, "std": 0.01, "count": 3},
           {"heads": 6, "ffn_ratio": 3.5, "effect": 0.02, "std": 0.01, "count": 4}]  # fmt: skip
EFFECTS = {
    "unit": "score",
    "layers": [{"layer": 1, "choices": CHOICES}, {"layer": 2, "choices": CHOICES[:1]}],
    "embed_dims": [{"embed_dim": 128, "effect": -0.1, "std": 0.02, "count": 5},
                   {"embed_dim": 192, "effect": 0.1, "std": 0.02, "count": 6}],
    "depths": [],
}  # fmt: skip


def width(subnets):
    """Grows with each layer's heads, so that the front has several points."""
    return [float(sum(subnet.heads)) for subnet in subnets]


def made(folder, others=(), score=width, costs=("params",), budgets=("params<=400K",), evals=30, **changes):
    nas.search(SPACE, score, {name: params_of(SPACE) for name in costs}, budgets, evals=evals, out=folder)
    found = {**summary(folder), **changes}
    return figures(found, read_run(folder)[1], others), found


def traces(figure):
    return {trace.get("name"): trace for trace in figure.plot["data"]}


def test_the_front_shows_every_score_and_what_nothing_beats(tmp_path):
    plots, found = made(tmp_path)
    drawn = traces(plots["front-params"])
    points = list(zip(drawn["evaluated subnet"]["x"], drawn["evaluated subnet"]["y"]))
    assert len(points) == found["counts"]["ok"]
    unbeaten = {(x, y) for x, y in points if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)}
    assert set(zip(drawn["on the front"]["x"], drawn["on the front"]["y"])) == unbeaten
    assert drawn["best"]["y"] == [max(y for _, y in points)]
    assert found["best"]["id"] in drawn["best"]["text"][0]
    assert [line["x0"] for line in plots["front-params"].plot["layout"]["shapes"]] == [400_000]
    assert plots["front-params"].plot["layout"]["annotations"][0]["text"] == "budget 400k"


def test_every_cost_has_a_front_and_odd_names_make_no_paths(tmp_path):
    plots, _ = made(tmp_path, costs=("params", "../<b>x</b>", "macs"))
    assert [name for name in plots if name.startswith("front")] == ["front-params", "front-2", "front-macs"]
    odd = plots["front-2"].plot
    assert odd["layout"]["xaxis"]["title"]["text"] == "../&lt;b&gt;x&lt;/b&gt;"
    assert "<b>x</b>" not in odd["data"][0]["text"][0]


def test_a_line_of_convergence_for_each_run_that_scored_something(tmp_path):
    made(tmp_path / "b", evals=5)
    made(tmp_path / "none", score=lambda subnets: [float("nan")] * len(subnets), evals=2)
    others = [summary(tmp_path / "b"), summary(tmp_path / "none")]
    plots, found = made(tmp_path / "a", others)
    lines = plots["convergence"].plot["data"]
    assert [line["name"] for line in lines] == ["exact, seed 0 (a)", "exact, seed 0 (b)"]
    assert [line["x"][-1] for line in lines] == [30, 5], "a line goes on to the last evaluation"
    assert lines[0]["y"][-1] == found["best"]["score"]


def test_layers_that_are_not_kept_have_a_label_and_no_bar(tmp_path):
    plots, found = made(tmp_path, score=lambda subnets: [-float(subnet.depth) for subnet in subnets])
    assert len(found["best"]["subnet"]["heads"]) == 2, "depth 2 keeps layers 1 and 3"
    plot = plots["subnet"].plot
    assert [bars["x"] for bars in plot["data"]] == [[1, 3]] * 4
    assert plot["data"][0]["y"] == [6, 6]
    assert plot["data"][1]["y"] == found["best"]["subnet"]["heads"]
    assert [(note["text"], note["x"]) for note in plot["layout"]["annotations"]] == [("not kept", 2)] * 2


@pytest.mark.parametrize("maximize", [True, False])
def test_better_choices_are_blue_in_either_direction(tmp_path, maximize):
    plots, _ = made(tmp_path, effects=EFFECTS, maximize=maximize)
    heat = plots["effects-layers"].plot["data"][0]
    assert heat["y"] == ["2 / 1.5", "6 / 3.5"]
    assert heat["z"] == [[-0.02, -0.02], [0.02, None]], "a choice that was not estimated is a gap"
    assert heat["colorscale"][2][1] == ("@better" if maximize else "@worse")
    assert heat["zmid"] == 0
    bars = plots["effects-embed_dim"].plot["data"][0]
    assert bars["marker"]["color"] == (["@worse", "@better"] if maximize else ["@better", "@worse"])
    assert bars["error_y"]["array"] == [0.02, 0.02]
    assert "effects-depth" not in plots


def test_taus_keep_their_intervals(tmp_path):
    trust = {
        "model": {"tau": 0.83, "low": 0.74, "high": 0.9},
        "by_cost": {"params": {"tau": -0.2, "low": -0.4, "high": 0.1}, "macs": {"tau": None}},
        "rescored": None,
    }
    plots, _ = made(tmp_path, trust=trust)
    bars = plots["trust"].plot["data"][0]
    assert bars["x"] == [0.83, -0.2]
    assert bars["error_x"]["array"] == pytest.approx([0.07, 0.3])
    assert bars["error_x"]["arrayminus"] == pytest.approx([0.09, 0.2])
    assert plots["trust"].plot["layout"]["xaxis"]["range"][0] == -0.4


@pytest.mark.parametrize(
    ("value", "digits", "told"),
    [
        (2_478_144, 3, "2.48M"),
        (2_478_144, 4, "2.478M"),
        (999_999, 3, "1M"),
        (27_250_000, 6, "27.25M"),
        (951_892_141_473, 3, "952G"),
        (971_944, 3, "972k"),
        (20.54321, 3, "20.54"),
        (0, 3, "0"),
        (-1.25, 3, "-1.25"),
        (None, 3, "unknown"),
    ],
)
def test_numbers_are_short(value, digits, told):
    assert short(value, digits) == told


def test_every_palette_knows_every_colour(tmp_path):
    plots, _ = made(tmp_path, effects=EFFECTS)
    assert PALETTES["light"].keys() == PALETTES["dark"].keys()
    for palette in PALETTES.values():
        painted = str(paint([figure.plot for figure in plots.values()], palette))
        assert "'@" not in painted


def test_runs_of_the_same_searcher_and_seed_are_told_apart():
    runs = [{"searcher": "random", "seed": 0, "run": f"runs/{name}"} for name in "ab"]
    assert run_names(runs) == ["random, seed 0 (a)", "random, seed 0 (b)"]
    assert run_names(runs[:1]) == ["random, seed 0"]
