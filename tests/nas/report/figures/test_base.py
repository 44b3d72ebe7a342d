from __future__ import annotations

import pytest

from nas.report.figures.base import PALETTES, axis, layout, listed, paint, plain, wrapped
from nas.report.figures.search import RUN_COLOURS
from tests.nas.report.helpers import EFFECTS, TRUST, drawn


def test_every_palette_knows_every_colour(tmp_path):
    plots, _ = drawn(tmp_path, changes={"effects": EFFECTS})
    assert PALETTES["light"].keys() == PALETTES["dark"].keys()
    for palette in PALETTES.values():
        painted = str(paint([figure.plot for figure in plots.values()], palette))
        assert "'@" not in painted


def contrast(one, other):
    """The contrast ratio of WCAG 2.2."""
    parts = [[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in (one, other)]
    linear = [[c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour] for colour in parts]
    low, high = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05 for red, green, blue in linear)
    return high / low


@pytest.mark.parametrize("scheme", PALETTES)
def test_text_and_marks_stand_out_from_what_is_behind_them(scheme):
    palette = PALETTES[scheme]
    for ground in ("@ground", "@card"):
        assert all(contrast(palette[text], palette[ground]) >= 4.5 for text in ("@ink", "@muted", "@worse"))
    assert contrast(palette["@on-main"], palette["@main"]) >= 4.5
    marks = [palette[name] for name in ("@dot", "@main", "@star", "@uniform", "@better", "@worse")]
    marks += [palette.get(colour, colour) for colour in RUN_COLOURS]
    assert all(contrast(mark, palette["@ground"]) >= 3 for mark in marks)


def test_painting_changes_names_of_colours_and_nothing_else():
    plot = {"a": ["@ink", "@other", 1, None], "b": {"c": ("@ink",)}}
    assert paint(plot, {"@ink": "#000"}) == {"a": ["#000", "@other", 1, None], "b": {"c": ["#000"]}}


def test_texts_for_plotly_hold_no_markup_and_fit_an_axis():
    assert plain("<b>a & b</b>") == "&lt;b&gt;a &amp; b&lt;/b&gt;"
    assert wrapped("Latency (ms) on onnxruntime, threads=1, seconds=2") == (
        "Latency (ms) on onnxruntime,<br>threads=1, seconds=2"
    )
    lines = wrapped(f"{'x' * 40} {'<b> ' * 40}").split("<br>")
    assert len(lines) == 3
    assert max(map(len, lines)) <= 36 * len("&lt;")
    assert lines[0] == "x" * 36
    assert lines[2].endswith(" …")
    assert listed([1.5, 2.0]) == "1.5, 2"


def test_a_legend_has_room_below_the_plot():
    plain, long = layout(100, axis("x"), ""), layout(100, axis("x<br>y"), "", legend=2)
    more = layout(100, axis("x<br>y"), "", legend=3)
    assert (plain["height"], plain["margin"]["b"], plain["showlegend"]) == (100, 8, False)
    assert more["height"] - long["height"] == more["margin"]["b"] - long["margin"]["b"] == 21
    assert long["margin"]["b"] > layout(100, axis("x"), "", legend=2)["margin"]["b"], "the axis has two lines"


def test_every_figure_says_what_it_shows(tmp_path):
    plots, _ = drawn(tmp_path, changes={"effects": EFFECTS, "trust": TRUST})
    assert all(figure.alt and "<" not in figure.alt for figure in plots.values())
    assert plots["effects-embed_dim"].alt == (
        "Embed dim 128: effect -0.1 ± 0.02, seen in 5 evaluations; "
        "embed dim 192: effect +0.1 ± 0.02, seen in 6 evaluations."
    )
    assert plots["effects-layers"].alt.startswith("Layer 1: 6 heads with FFN ratio 3.5 do best (+0.02).")
    assert plots["trust"].alt.startswith("score model: 0.83 (0.74 to 0.90).")
