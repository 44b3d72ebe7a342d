from __future__ import annotations

import re
import sys

import pytest

from nas.report.figures.base import PALETTES
from nas.report.figures.images import write_front, write_images
from search_spaces import NasError
from tests.nas.report.helpers import HOSTILE, drawn, needs_chrome, searched


def test_without_plotly_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    folder = searched(tmp_path / "a")
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(NasError, match=r"need plotly and kaleido: pip install 'lighthubert-nas\[report\]'"):
        write_images([folder], tmp_path / "png", "png")


def test_without_a_browser_one_line_says_how_to_get_one(tmp_path, monkeypatch):
    pytest.importorskip("kaleido")
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-chrome"))
    with pytest.raises(NasError, match="apt-get install chromium"):
        write_images([searched(tmp_path / "a")], tmp_path / "png", "png")
    assert not (tmp_path / "png").exists()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.pdf", {}, r"to a \.png or \.svg file; got .*a\.pdf"),
        ("a.svg", {"costs": (), "budgets": ()}, "has no front"),
    ],
)
def test_a_front_that_cannot_be_written_is_one_line(tmp_path, name, options, words):
    with pytest.raises(NasError, match=words):
        write_front([searched(tmp_path / "a", **options)], tmp_path / name)


@pytest.mark.slow
@needs_chrome
def test_every_figure_is_written_as_png(tmp_path):
    plots, _ = drawn(tmp_path / "a")
    files = write_images([tmp_path / "a"], tmp_path / "new" / "png", "png")
    assert [file.name for file in files] == [f"{name}.png" for name in plots]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@needs_chrome
def test_the_front_is_one_small_svg_for_light_and_dark_pages(tmp_path):
    def score(subnets):
        return [float(sum(subnet.heads)) for subnet in subnets]

    score.name = HOSTILE
    file = write_front([searched(tmp_path / "a", score)], tmp_path / "img" / "front.svg")
    svg = file.read_text()
    assert [each.name for each in file.parent.iterdir()] == ["front.svg"]
    assert len(svg) < 60_000
    assert not re.search(r"<script|<img|href=|url\((?!['\"]?#)|@import|@font-face", svg)
    assert set(re.findall(r"https?://[^\"]*", svg)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<title>Score against parameters</title><desc>30 subnets." in svg
    rules = svg.partition("@media(prefers-color-scheme:dark){")[2].partition("</style>")[0]
    body = svg.partition("</style>")[2]
    for name in ("@ink", "@ground", "@line", "@star", "@worse"):
        red, green, blue = (int(PALETTES["light"][name][i : i + 2], 16) for i in (1, 3, 5))
        assert f"rgb({red}, {green}, {blue})" in body
        assert f"rgb({red}, {green}, {blue})" in rules
        assert PALETTES["dark"][name] in rules
