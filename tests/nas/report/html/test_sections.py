from __future__ import annotations

import json

import pytest

import nas
from nas.report.html import write_html
from nas.testing.worlds import params_of
from tests.nas.report.helpers import EFFECTS, HOSTILE, SPACE, TRUST, Page, searched, width

pytestmark = pytest.mark.usefixtures("small_plotly")


def test_the_page_tells_what_was_chosen_and_how_it_was_searched(tmp_path):
    best = nas.search(SPACE, width, {"params": params_of(SPACE)}, ["params<=400K"], evals=30, out=tmp_path / "a").best
    page = Page(write_html([tmp_path / "a"], tmp_path / "report.html"))
    share = 100 * best.costs["params"] / 400_000
    assert f"{best.score:.5g}" in page.text
    for words in (best.subnet.id, "504 subnets", "params ≤ 400k", f"{share:.1f} % of", "30 evaluated"):
        assert words in page.text
    drawn = [attributes["id"] for tag, attributes in page.tags if attributes.get("class") == "plot"]
    assert drawn == list(page.plots)
    assert {"front-params", "convergence", "subnet"} < set(drawn)


def test_effects_trust_and_hypervolume_are_shown_where_the_search_left_them(tmp_path):
    volume = {"value": 123456.0, "reference": {"cost": 400_000, "score": 2.0}}
    added = {"effects": EFFECTS, "trust": TRUST, "hypervolume": volume}
    page = Page(write_html([searched(tmp_path / "a", added=added)], tmp_path / "report.html"))
    assert {"effects-layers", "effects-embed_dim", "trust"} < page.plots.keys()
    for words in (*TRUST["words"], TRUST["certificate"], "0123456789ab", "123.46k", "params 400k"):
        assert words in page.text


def test_further_runs_are_compared(tmp_path):
    folders = [searched(tmp_path / "a"), searched(tmp_path / "b", seed=7), searched(tmp_path / "c", budgets=())]
    page = Page(write_html(folders, tmp_path / "report.html"))
    assert [line["name"] for line in page.plots["convergence"]["data"]] == [
        "exact, seed 0 (a)", "exact, seed 7", "exact, seed 0 (c)",
    ]  # fmt: skip
    assert len(page.plots["front-params"]["data"][0]["x"]) == 30, "the rest of the page is of the first run"
    assert "cannot be compared" not in page.text
    other = searched(tmp_path / "d", score=lambda subnets: [1.0] * len(subnets))
    assert "cannot be compared" in Page(write_html([*folders, other], tmp_path / "report.html")).text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"evals": 0}, "No subnet was scored"),
        ({"evals": 1}, "1 evaluated"),
        ({"budgets": ()}, "without a budget"),
        ({"costs": (), "budgets": ()}, "no cost"),
        ({"score": lambda subnets: [float("nan")] * len(subnets)}, "score is NaN"),
    ],
)
def test_a_run_with_little_in_it_has_a_page(tmp_path, kind, words):
    assert words in Page(write_html([searched(tmp_path / "a", **kind)], tmp_path / "report.html")).text


def test_text_from_a_run_cannot_become_markup(tmp_path):
    def score(subnets):
        if len(subnets) == 1 and subnets[0].heads[0] == 2:
            raise ValueError(HOSTILE)
        return width(subnets)

    score.name = HOSTILE
    trust = {**TRUST, "words": [HOSTILE], "by_cost": {HOSTILE: TRUST["model"]}}
    added = {"versions": {HOSTILE: HOSTILE}, "trust": trust}
    folder = tmp_path / HOSTILE.replace("/", "_")
    searched(folder, score, ("params", HOSTILE), batch=1, added=added, settings={"command": HOSTILE})
    plain = Page(write_html([searched(tmp_path / "a", score=width)], tmp_path / "plain.html"))
    page = Page(write_html([folder], tmp_path / "report.html"))
    assert len(page.scripts) == len(plain.scripts) == 2
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert page.text.count(HOSTILE) >= 5, "it is shown as it is"
    plots = page.plots
    alts = [plot["layout"].pop("meta") for plot in plots.values()]
    assert HOSTILE in " ".join(alts), "plotly does not read it"
    assert "<img" not in json.dumps(plots)
