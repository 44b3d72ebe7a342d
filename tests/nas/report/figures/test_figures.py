"""Which figures a run has (nas/report/figures/__init__.py)."""

from __future__ import annotations

from tests.nas.report.helpers import EFFECTS, TRUST, drawn


def test_a_whole_run_has_every_figure_in_the_order_of_the_page(tmp_path):
    depths = [{"depth": 2, "effect": 0.1}]
    plots, _ = drawn(tmp_path, changes={"effects": {**EFFECTS, "depths": depths}, "trust": TRUST})
    assert list(plots) == [
        "front-params", "convergence", "subnet", "effects-layers", "effects-embed_dim", "effects-depth", "trust",
    ]  # fmt: skip


def test_a_run_without_scores_has_no_figure(tmp_path):
    plots, _ = drawn(tmp_path, evals=0)
    assert plots == {}


def test_a_run_without_costs_has_no_front(tmp_path):
    plots, _ = drawn(tmp_path, costs=(), budgets=(), evals=3)
    assert list(plots) == ["convergence", "subnet"]
