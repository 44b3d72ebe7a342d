from __future__ import annotations

import json
import re

from nas.report.figures import PALETTES, Figure
from nas.report.html.page import page
from tests.nas.report.helpers import HOSTILE, Page


def test_the_document_holds_sections_plots_palettes_and_script(tmp_path):
    figure = Figure("title", "caption", {"data": [{"name": HOSTILE}], "layout": {"height": 100}})
    file = tmp_path / "page.html"
    file.write_text(page(HOSTILE, ["<p>one</p>", "", "<p>two {}</p>"], {"a": figure}, "var Plotly;"))
    document = Page(file)
    assert document.scripts[0] == "var Plotly;"
    assert document.plots == {"a": figure.plot}
    assert "onetwo {}" in document.text.replace("\n", "")
    assert [tag for tag, _ in document.tags].count("script") == 2
    assert HOSTILE in document.text, "the title, as text"
    palettes = json.JSONDecoder().raw_decode(document.scripts[1].split("PALETTES = ", 1)[1])[0]
    assert palettes == PALETTES


def test_every_colour_of_the_style_sheet_is_in_the_palettes():
    style = page("", [], {}, "").split("<style>", 1)[1].split("</style>", 1)[0]
    used = set(re.findall(r"var\(--([a-z-]+)\)", style))
    assert used
    assert {f"@{name}" for name in used} <= PALETTES["light"].keys()
