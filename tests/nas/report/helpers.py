"""Runs for the report to show, and the page as a browser sees it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

import nas
from nas.report.figures import figures
from nas.report.run import read_report
from nas.testing.worlds import params_of, tiny_space

SPACE = tiny_space()
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&amp;"
CHOICES = [{"heads": 2, "ffn_ratio": 1.5, "effect": -0.02, "std": 0.01, "count": 3},
           {"heads": 6, "ffn_ratio": 3.5, "effect": 0.02, "std": 0.01, "count": 4}]  # fmt: skip
EFFECTS = {
    "unit": "score",
    "layers": [{"layer": 1, "choices": CHOICES}, {"layer": 2, "choices": CHOICES[:1]}],
    "embed_dims": [{"embed_dim": 128, "effect": -0.1, "std": 0.02, "count": 5},
                   {"embed_dim": 192, "effect": 0.1, "std": 0.02, "count": 6}],
    "depths": [],
}  # fmt: skip
TRUST = {
    "evaluations": 30,
    "model": {"tau": 0.83, "low": 0.74, "high": 0.9, "top_k": 5, "top_k_regret": 0.001},
    "by_cost": {"params": {"tau": 0.5, "low": 0.4, "high": 0.6}},
    "rescored": {"speech": "dev", "subnets": 1, "tau": 0.5, "low": 0.1, "high": 0.8, "winner_rank": 1,
                 "rows": [{"id": "0123456789ab", "score": 1.5, "rescored": 1.25}]},
    "certificate": "No subnet beats it by 0.01.",
    "words": ["The model is < right > often."],
}  # fmt: skip

needs_chrome = pytest.mark.skipif(
    find_spec("kaleido") is None or not (which("chromium") or which("google-chrome")),
    reason="needs kaleido, and Chrome or Chromium",
)


def width(subnets):
    """Grows with each layer's heads, so that the front has several points."""
    return [float(sum(subnet.heads)) for subnet in subnets]


def searched(folder, score=width, costs=("params",), budgets=("params<=400K",), evals=30, added=None, **more):
    """A run folder, with the entries of `added` put into its run.json."""
    with suppress(nas.NothingScored):
        nas.search(SPACE, score, {name: params_of(SPACE) for name in costs}, budgets, evals=evals, out=folder, **more)
    file = Path(folder) / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **(added or {})}))
    return folder


def drawn(folder, others=(), changes=None, **options):
    """The figures of a run made with `options`, and the run with `changes` to its fields."""
    run = replace(read_report(searched(folder, **options)), **(changes or {}))
    return figures(run, others), run


class Page(HTMLParser):
    """What a browser would see: text outside scripts, attributes, scripts."""

    def __init__(self, file: Path):
        super().__init__()
        self.text, self.tags, self.scripts, self._inside = "", [], [], ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data

    @property
    def plots(self):
        return json.JSONDecoder().raw_decode(self.scripts[-1].split("const PLOTS = ", 1)[1])[0]
