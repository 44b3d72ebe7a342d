"""Every model card's way of loading is run as it stands."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from search_spaces import get_space
from supernet import HubertSupernet, load_supernet
from supernet.export import EXPORTERS, export_subnet, get_exporter
from supernet.export.card import card

ROOT = Path(__file__).parents[3]


def loading(text):
    """{format: code} of a model card."""
    return dict(re.findall(r"^### (\S+)\n.*?^```python\n(.*?)^```", text, re.M | re.S))


@pytest.mark.slow
def test_each_way_of_loading_runs(tmp_path):
    model = load_supernet("hubert-tiny")
    subnet = model.space.sample(np.random.default_rng(0))
    formats = [name for name in EXPORTERS if name != "lighthubert"]
    export_subnet(model, subnet, tmp_path / "out", formats, {"name": "hubert-tiny"})
    codes = loading((tmp_path / "out" / "README.md").read_text())
    assert list(codes) == formats
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = "\n".join(codes.values())
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, cwd=tmp_path / "out", env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["hf", "s3prl"])
def test_a_folder_that_is_taken_away_alone_says_how_it_is_loaded(supernet, small_space, tmp_path, name):
    export_subnet(supernet, small_space.middle, tmp_path / "out", [name], {})
    code = loading((tmp_path / "out" / name / "README.md").read_text())[name]
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, cwd=tmp_path / "out" / name, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lighthuberts_way_of_loading_runs(tmp_path, monkeypatch):
    torch.manual_seed(0)
    provenance = {"source": "LightHuBERT small"}
    model = HubertSupernet(get_space("lighthubert-small"), (12,), 768, "fairseq", provenance).eval()
    export_subnet(model, model.space.smallest, tmp_path / "out", ["lighthubert"], {})
    monkeypatch.chdir(tmp_path / "out")
    names = {}
    exec(loading(Path("README.md").read_text())["lighthubert"], names)
    assert len(names["hidden_states"]) == model.space.smallest.depth + 1


def test_a_card_says_what_the_subnet_is_worth_and_whose_weights_it_has(supernet, small_space):
    about = {
        "name": "mine",
        "command": "nas export runs/a",
        "costs": {"params": 12_345, "latency_ms": 1.23456},
        "score": 0.61234,
        "budgets": ["params<=20K"],
        "trust": {"words": ["Half of it is noise."], "certificate": None},
        "score_fp32": 0.6,
        "score_of": "62 s of speech",
    }
    text = card(supernet, small_space.middle, ["onnx", "hf"], about, "int8", {"onnx": 0.61})
    for line in (
        "of mine", "| params | 12,345 |", "| latency_ms | 1.2346 |", "| budgets | params\\<=20K |",
        "| score | 0.61234 |",
        "| trust | Half of it is noise. |", "0.61 (+0.01000 of float32's 0.6, 62 s of speech)",
        '| source weights | {"teacher": "t"} |', "not recorded in the checkpoint", "| made by | nas export runs/a |",
    ):  # fmt: skip
        assert line in text
    assert list(loading(text)) == ["onnx", "hf"]


def test_the_readmes_table_loads_as_the_cards_do():
    rows = re.findall(r"^\| `(\S+)`.*\| `([^`]+)` \|$", (ROOT / "docs" / "guides" / "exports.md").read_text(), re.M)
    shown = {name: code for name, code in rows if name in EXPORTERS and name != "lighthubert"}
    assert set(shown) == set(EXPORTERS) - {"lighthubert"}
    for name, code in shown.items():
        assert code in get_exporter(name).loading.replace("{remote_code}", "True").replace("{folder}", name).replace(
            "{auto}", "AutoModel"
        )


def test_every_format_says_how_it_is_loaded(supernet, small_space):
    text = card(supernet, small_space.middle, list(EXPORTERS), {}, "fp32", {})
    assert list(loading(text)) == list(EXPORTERS)
    assert all(code.strip() for code in loading(text).values())


@pytest.mark.parametrize(("norm", "warned"), [("group", True), ("layer", False), ("none", False)])
def test_padding_is_warned_of_where_a_norm_is_over_time(small_space, norm, warned):
    model = HubertSupernet(replace(small_space, network=replace(small_space.network, conv_norm=norm)), (4, 12), 8)
    text = card(model, small_space.middle, ["json"], {}, "fp32", {})
    assert ("padding changes its statistics" in text) == warned
    assert "\n\n## How to load it\n" in text


def test_a_latency_stands_in_the_card_as_predicted_and_as_measured(supernet, small_space):
    latency = {
        "target": "torch,threads=1,seconds=2", "predicted_ms": 11.9, "bound_ms": 12.1, "measured_ms": 11.82,
        "measured_at_most_ms": 11.88, "measured_confidence": 0.975,
    }  # fmt: skip
    text = card(supernet, small_space.middle, ["json"], {"measured": {"latency_ms<=12.2": latency}}, "fp32", {})
    assert (
        "| measured for latency_ms\\<=12.2 | 11.82 ms, at most 11.88 at 97.5% confidence; predicted 11.9, at most 12.1 "
        "(on torch,threads=1,seconds=2) |" in text
    )


HOSTILE = [
    "<script>alert(1)</script>", "[here](http://evil.example)", "![x](http://evil.example/p.png)", "a | b | c",
    "line\n\n# heading", "```\ncode", "`code`", "**bold** _em_", "http://evil.example", "www.evil.example",
    "a@b.example",
    "\x1b[31mred", "\u202ereversed", "<!-- -->", "&lt;b&gt;", "---\nlicense: x\n---", "$$x$$", "~~x~~",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_others_is_never_markup(supernet, small_space, text):
    """Rendered by another implementation (markdown-it, GitHub's dialect), it shows as the text it was."""
    from markdown_it import MarkdownIt

    about = {
        "name": text, "command": text, "budgets": [text], "score_of": text, "score_fp32": 0.5, "costs": {text: 1},
        "supernet": {"source": text, "licence": text}, "trust": {"words": [text], "certificate": text},
    }  # fmt: skip
    render = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render
    html = render(card(supernet, small_space.middle, ["json"], about, "int8", {"x": 0.1}))
    plain = render(card(supernet, small_space.middle, ["json"], {}, "int8", {}))
    for tag in (
        "<script",
        "<a ",
        "<img",
        "<strong",
        "<em",
        "<s>",
        "<b>",
        "<!--",
        "<h1",
        "<h2",
        "<pre",
        "\x1b",
        "\u202e",
    ):
        assert html.count(tag) == plain.count(tag), tag
    assert html.count("<code") == plain.count("<code")
    assert {row.count("<td") for row in html.split("<tr>")[2:]} <= {2}


@pytest.mark.parametrize(
    ("licence", "identifier", "name"),
    [(None, "unknown", None), ("MIT; of five people", "mit", None), ("Ours\nlicense: mit", "other", "see-below")],
)
def test_the_hub_reads_facts_from_the_card_and_nothing_of_others_among_them(small_space, licence, identifier, name):
    from huggingface_hub import ModelCard

    provenance = {"licence": licence, "base_model": "a: b\ntags: [x]"}
    model = HubertSupernet(small_space, provenance=provenance)
    data = ModelCard(card(model, small_space.middle, ["json"], {}, "fp32", {})).data
    assert (data.license, data.license_name, data.base_model) == (identifier, name, None)
    assert (data.library_name, data.pipeline_tag) == ("lighthubert-nas", "feature-extraction")
