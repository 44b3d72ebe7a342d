from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import nas
from nas.report import html
from nas.report.html import write_html, write_pngs
from nas.testing.worlds import params_of, tiny_space
from search_spaces import NasError, RunError
from tests.nas.report.test_figures import EFFECTS, width

SPACE = tiny_space()
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&amp;"
TRUST = {
    "evaluations": 30,
    "model": {"tau": 0.83, "low": 0.74, "high": 0.9, "top_k": 5, "top_k_regret": 0.001},
    "by_cost": {"params": {"tau": 0.5, "low": 0.4, "high": 0.6}},
    "rescored": {"speech": "dev", "subnets": 1, "tau": 0.5, "low": 0.1, "high": 0.8, "winner_rank": 1,
                 "rows": [{"id": "0123456789ab", "score": 1.5, "rescored": 1.25}]},
    "certificate": "No subnet beats it by 0.01.",
    "words": ["The model is < right > often."],
}  # fmt: skip


class Page(HTMLParser):
    """What a browser would see: text outside scripts, attributes, scripts."""

    def __init__(self, file: Path):
        super().__init__()
        self.text, self.tags, self.scripts, self._inside = "", [], [], ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data

    @property
    def plots(self):
        found = json.JSONDecoder().raw_decode(self.scripts[-1].split("const PLOTS = ", 1)[1])
        return found[0]


@pytest.fixture(autouse=True)
def _small_plotly(monkeypatch):
    """Without the five megabytes of JavaScript, for which the first test undoes this."""
    pytest.importorskip("plotly")
    monkeypatch.setattr(html, "_plotly_js", lambda: "var Plotly;")


def searched(folder, score=width, costs=("params",), budgets=("params<=400K",), evals=30, left=None, **more):
    """A run folder, with what `left` says added to its run.json."""
    nas.search(SPACE, score, {name: params_of(SPACE) for name in costs}, budgets, evals=evals, out=folder, **more)
    file = Path(folder) / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **(left or {})}))
    return folder


def test_the_page_is_one_file_that_asks_the_network_for_nothing(tmp_path, monkeypatch):
    monkeypatch.undo()
    file = write_html([searched(tmp_path / "a", left={"effects": EFFECTS, "trust": TRUST})], tmp_path / "report.html")
    page = Page(file)
    assert len(page.scripts) == 2
    assert "plotly.js v" in page.scripts[0][:200]
    assert not [tag for tag, attributes in page.tags if {"src", "href", "srcset", "data"} & attributes.keys()]
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"https?:", policy)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]


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
    left = {"effects": EFFECTS, "trust": TRUST, "hypervolume": volume}
    page = Page(write_html([searched(tmp_path / "a", left=left)], tmp_path / "report.html"))
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
    left = {"versions": {HOSTILE: HOSTILE}, "trust": trust}
    folder = tmp_path / HOSTILE.replace("/", "_")
    searched(folder, score, ("params", HOSTILE), batch=1, left=left, settings={"command": HOSTILE})
    plain = Page(write_html([searched(tmp_path / "a", score=width)], tmp_path / "plain.html"))
    page = Page(write_html([folder], tmp_path / "report.html"))
    assert len(page.scripts) == len(plain.scripts) == 2
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert page.text.count(HOSTILE) >= 5, "it is shown as it is"
    assert "<img" not in json.dumps(page.plots)


@pytest.mark.parametrize("left", [{"effects": []}, {"effects": {}}, {"trust": {"words": 3}}, {"hypervolume": {"a": 1}},
                                  {"effects": {"layers": [{"layer": "<b>", "choices": []}]}}])  # fmt: skip
def test_what_the_search_did_not_write_is_one_line_or_nothing(tmp_path, left):
    folder = searched(tmp_path / "a", left=left)
    if left == {"effects": {}}:
        write_html([folder], tmp_path / "report.html")
    else:
        with pytest.raises(RunError, match=r"run\.json"):
            write_html([folder], tmp_path / "report.html")
        assert not (tmp_path / "report.html").exists()


def test_numbers_that_json_lacks_are_unknown(tmp_path):
    trust = {**TRUST, "model": {"tau": float("nan"), "low": float("nan"), "high": float("inf")}}
    page = Page(write_html([searched(tmp_path / "a", left={"trust": trust})], tmp_path / "report.html"))
    assert page.plots["trust"]["data"][0]["x"] == [0.5, 0.5], "params alone, scored again"


def test_importing_does_not_import_plotly():
    code = "import nas.report.html, sys; sys.exit('plotly' in sys.modules or 'kaleido' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(nas.__file__).parents[1], check=False).returncode == 0


def test_without_plotly_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.undo()
    for name in ("plotly", "plotly.offline"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NasError, match=r"the HTML report needs plotly: pip install 'lighthubert-nas\[report\]'"):
        write_html([tmp_path], tmp_path / "report.html")
    with pytest.raises(NasError, match=r"need plotly and kaleido: pip install 'lighthubert-nas\[report\]'"):
        write_pngs([tmp_path], tmp_path / "png")


def test_without_a_browser_one_line_says_how_to_get_one(tmp_path, monkeypatch):
    pytest.importorskip("kaleido")
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-chrome"))
    with pytest.raises(NasError, match="apt-get install chromium"):
        write_pngs([searched(tmp_path / "a")], tmp_path / "png")


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("chromium") or shutil.which("google-chrome")), reason="needs Chrome or Chromium")
def test_the_figures_are_written_as_png(tmp_path):
    pytest.importorskip("kaleido")
    files = write_pngs([searched(tmp_path / "a")], tmp_path / "new" / "png")
    names = ["front-params", "convergence", "subnet", "effects-layers", "effects-embed_dim", "effects-depth", "trust"]
    assert [file.name for file in files] == [f"{name}.png" for name in names]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")
