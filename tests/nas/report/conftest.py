from __future__ import annotations

import pytest

from nas.report.html import files


@pytest.fixture
def small_plotly(monkeypatch):
    """Pages without the five megabytes of plotly's JavaScript."""
    pytest.importorskip("plotly")
    monkeypatch.setattr(files, "_plotly_js", lambda: "var Plotly;")
