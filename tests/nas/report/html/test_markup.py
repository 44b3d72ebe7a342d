from __future__ import annotations

import json

from nas.report.html.markup import box, breakable, escaped, facts, folded, for_script, section, table, tile, tiles
from tests.nas.report.helpers import HOSTILE


def test_text_is_never_markup():
    for piece in (
        escaped(HOSTILE), section(HOSTILE, "x"), folded(HOSTILE, ""), box("bad", HOSTILE), tile(HOSTILE, HOSTILE),
        table([HOSTILE], [[HOSTILE]], caption=HOSTILE), facts([[HOSTILE]]), breakable(HOSTILE),
    ):  # fmt: skip
        assert "<img" not in piece
        assert "<script" not in piece
        assert "&lt;img" in piece


def test_quotes_cannot_end_an_attribute():
    assert escaped("""a"b'c""") == "a&quot;b&#x27;c"


def test_long_names_break_where_their_parts_end():
    assert breakable("latency_ms@torch,threads=1, x") == "latency_ms@<wbr>torch,<wbr>threads=1, x"
    assert breakable("a'/b") == "a&#x27;/<wbr>b"


def test_json_in_a_script_cannot_end_it_and_stays_the_same_value():
    text = for_script({"a": HOSTILE, "b": [1, None]})
    assert not {"<", ">", "&"} & set(text)
    assert json.loads(text) == {"a": HOSTILE, "b": [1, None]}


def test_numbers_are_aligned_right_from_their_column_on():
    assert table(("a", "b"), [("c", "d")], numbers=1, caption="e") == (
        "<div class='scroll' role='group' aria-label=\"e\" tabindex='0'><table><caption>e</caption>"
        "<thead><tr><th scope='col'>a</th><th scope='col' class='right'>b</th></tr></thead>"
        "<tbody><tr><th scope='row'>c</th><td class='right'>d</td></tr></tbody></table></div>"
    )


def test_a_section_without_content_is_nothing():
    assert section("Title", "") == ""
    assert section("Title", "x") == "<section><h2>Title</h2>x</section>"
    assert tiles(["a", "b"]) == "<dl class='tiles'>ab</dl>"
