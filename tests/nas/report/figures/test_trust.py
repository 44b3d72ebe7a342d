from __future__ import annotations

import pytest

from nas.report.figures.trust import trust_figure


def test_taus_keep_their_intervals():
    trust = {
        "model": {"tau": 0.83, "low": 0.74, "high": 0.9},
        "by_cost": {"params": {"tau": -0.2, "low": -0.4, "high": 0.1}, "macs": {"tau": None}},
        "rescored": None,
    }
    plot = trust_figure(trust).plot
    bars = plot["data"][0]
    assert bars["x"] == [0.83, -0.2]
    assert bars["error_x"]["array"] == pytest.approx([0.07, 0.3])
    assert bars["error_x"]["arrayminus"] == pytest.approx([0.09, 0.2])
    assert plot["layout"]["xaxis"]["range"][0] < -0.4, "the whisker ends within the plot"


def test_a_tau_without_an_interval_has_no_whiskers():
    bars = trust_figure({"rescored": {"tau": 0.5}}).plot["data"][0]
    assert bars["y"] == ["scored again<br><b>0.50</b> (0.50 to 0.50)"]
    assert (bars["error_x"]["array"], bars["error_x"]["arrayminus"]) == ([0], [0])


@pytest.mark.parametrize("trust", [None, {}, {"model": None, "by_cost": {}}, {"model": {"tau": None}}])
def test_without_a_tau_there_is_no_figure(trust):
    assert trust_figure(trust) is None
