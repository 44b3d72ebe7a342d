from __future__ import annotations

from nas.report.figures.base import PALETTES, brief, layout, listed, paint, plain
from tests.nas.report.helpers import EFFECTS, drawn


def test_every_palette_knows_every_colour(tmp_path):
    plots, _ = drawn(tmp_path, changes={"effects": EFFECTS})
    assert PALETTES["light"].keys() == PALETTES["dark"].keys()
    for palette in PALETTES.values():
        painted = str(paint([figure.plot for figure in plots.values()], palette))
        assert "'@" not in painted


def test_painting_changes_names_of_colours_and_nothing_else():
    plot = {"a": ["@ink", "@other", 1, None], "b": {"c": ("@ink",)}}
    assert paint(plot, {"@ink": "#000"}) == {"a": ["#000", "@other", 1, None], "b": {"c": ["#000"]}}


def test_texts_for_plotly_hold_no_markup_and_fit_an_axis():
    assert plain("<b>a & b</b>") == "&lt;b&gt;a &amp; b&lt;/b&gt;"
    assert brief("x" * 40) == "x" * 31 + "…"
    assert brief("<" * 3) == "&lt;" * 3
    assert listed([1.5, 2.0]) == "1.5, 2"


def test_a_legend_has_room_below_the_plot():
    assert layout(100)["margin"]["b"] == 70
    assert layout(100, showlegend=False)["margin"]["b"] == 8
