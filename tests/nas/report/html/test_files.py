from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nas
from nas.report.html import write_html
from search_spaces import NasError, RunError
from tests.nas.report.helpers import EFFECTS, TRUST, Page, searched

pytestmark = pytest.mark.usefixtures("small_plotly")


def test_the_page_is_one_file_that_asks_the_network_for_nothing(tmp_path, monkeypatch):
    monkeypatch.undo()
    file = write_html([searched(tmp_path / "a", added={"effects": EFFECTS, "trust": TRUST})], tmp_path / "report.html")
    page = Page(file)
    assert len(page.scripts) == 2
    assert "plotly.js v" in page.scripts[0][:200]
    assert not [tag for tag, attributes in page.tags if {"src", "href", "srcset", "data"} & attributes.keys()]
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"https?:", policy)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]


@pytest.mark.parametrize("added", [{"effects": []}, {"effects": {}}, {"trust": {"words": 3}}, {"hypervolume": {"a": 1}},
                                  {"effects": {"layers": [{"layer": "<b>", "choices": []}]}}])  # fmt: skip
def test_what_the_search_did_not_write_is_one_line_or_nothing(tmp_path, added):
    folder = searched(tmp_path / "a", added=added)
    if added == {"effects": {}}:
        write_html([folder], tmp_path / "report.html")
    else:
        with pytest.raises(RunError, match=r"run\.json"):
            write_html([folder], tmp_path / "report.html")
        assert not (tmp_path / "report.html").exists()


def test_numbers_that_json_lacks_are_unknown(tmp_path):
    trust = {**TRUST, "model": {"tau": float("nan"), "low": float("nan"), "high": float("inf")}}
    page = Page(write_html([searched(tmp_path / "a", added={"trust": trust})], tmp_path / "report.html"))
    assert page.plots["trust"]["data"][0]["x"] == [0.5, 0.5], "params alone, scored again"


def test_importing_does_not_import_plotly():
    modules = "nas.report.html, nas.report.figures.images"
    code = f"import {modules}, sys; sys.exit('plotly' in sys.modules or 'kaleido' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(nas.__file__).parents[1], check=False).returncode == 0


def test_without_plotly_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.undo()
    for name in ("plotly", "plotly.offline"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NasError, match=r"the HTML report needs plotly: pip install 'lighthubert-nas\[report\]'"):
        write_html([tmp_path], tmp_path / "report.html")
