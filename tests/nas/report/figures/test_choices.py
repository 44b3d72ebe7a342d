from __future__ import annotations

import pytest

from tests.nas.report.helpers import EFFECTS, drawn


def test_layers_that_are_not_kept_have_a_label_and_no_bar(tmp_path):
    plots, run = drawn(tmp_path, score=lambda subnets: [-float(subnet.depth) for subnet in subnets])
    assert len(run.best.subnet.heads) == 2, "depth 2 keeps layers 1 and 3"
    plot = plots["subnet"].plot
    assert [bars["x"] for bars in plot["data"]] == [[1, 3]] * 4
    assert plot["data"][0]["y"] == [6, 6]
    assert plot["data"][1]["y"] == list(run.best.subnet.heads)
    assert [(note["text"], note["x"]) for note in plot["layout"]["annotations"]] == [("not kept", 2)] * 2


def test_bars_say_the_choice_and_the_largest_and_have_one_legend(tmp_path):
    plots, run = drawn(tmp_path)
    heads, ratios = run.best.subnet.heads, run.best.subnet.ffn_ratios
    bars = plots["subnet"].plot["data"]
    assert bars[1]["hovertext"][0] == f"layer 1: heads {heads[0]}, of at most 6"
    assert bars[3]["hovertext"][-1] == f"layer 3: FFN ratio {ratios[-1]:g}, of at most 3.5"
    assert [each.get("showlegend", True) for each in bars] == [True, True, False, False]


@pytest.mark.parametrize("maximize", [True, False])
def test_better_choices_are_blue_in_either_direction(tmp_path, maximize):
    plots, _ = drawn(tmp_path, changes={"effects": EFFECTS, "maximize": maximize})
    heat = plots["effects-layers"].plot["data"][0]
    assert heat["y"] == ["2 / 1.5", "6 / 3.5"]
    assert heat["z"] == [[-0.02, -0.02], [0.02, None]], "a choice that was not estimated is a gap"
    assert heat["colorscale"][2][1] == ("@better" if maximize else "@worse")
    assert heat["zmid"] == 0
    bars = plots["effects-embed_dim"].plot["data"][0]
    assert bars["marker"]["color"] == (["@worse", "@better"] if maximize else ["@better", "@worse"])
    assert bars["error_y"]["array"] == [0.02, 0.02]
    assert "effects-depth" not in plots


def test_the_chosen_embed_dim_has_a_star_and_effects_say_their_evidence(tmp_path):
    plots, run = drawn(tmp_path, changes={"effects": EFFECTS})
    bars = plots["effects-embed_dim"].plot["data"][0]
    assert bars["x"] == [f"{D}{' ★' if run.best.subnet.embed_dim == D else ''}" for D in (128, 192)]
    assert bars["text"][1] == "embed dim 192<br>effect +0.1 ± 0.02<br>seen in 6 evaluations"


def test_an_effect_without_a_value_is_unknown(tmp_path):
    rows = [{"embed_dim": 128, "effect": None}, {"embed_dim": 192, "effect": 0.1}]
    plots, _ = drawn(tmp_path, changes={"effects": {**EFFECTS, "embed_dims": rows}})
    assert plots["effects-embed_dim"].plot["data"][0]["text"] == [
        "embed dim 128<br>effect unknown", "embed dim 192<br>effect +0.1",
    ]  # fmt: skip
