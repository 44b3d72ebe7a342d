from __future__ import annotations

import json
from contextlib import suppress
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

import nas
from evaluators.scores import synthetic
from nas.report.summary import report_run, summary
from nas.testing.worlds import params_of, tiny_space
from search_spaces import RunError, space_from_dict

SPACE = tiny_space()


def shown(folder, width=100):
    console = Console(file=StringIO(), width=width)
    console.print(report_run(folder))
    return console.file.getvalue()


def test_the_report_shows_best_front_counts_and_share(tmp_path):
    params = params_of(SPACE)
    result = nas.search(SPACE, synthetic(SPACE), {"params": params}, ["params<=400K"], evals=40, out=tmp_path)
    found = summary(tmp_path)
    assert json.loads(json.dumps(found))["best"] == result.best.to_dict()
    assert found["space_fits"] == sum(params.of(subnet) <= 400_000 for subnet in SPACE)
    assert found["counts"] == {"proposed": 40, "ok": 40, "failed": 0, "over_budget": 0, "ruled_out": 0}
    assert found["budget_used"] == {"params<=400000": result.best.costs["params"] / 400_000}
    assert found["convergence"][-1] == (result.best.index + 1, result.best.score)
    assert [point["id"] for point in found["front"]] == [e.subnet.id for e in result.front]
    text = shown(tmp_path)
    best = result.best
    for word in (best.subnet.id, f"{best.costs['params']:,}", "of 504", "% of params<=400000", "40 of 40"):
        assert word in text


@pytest.mark.parametrize(("evals", "value"), [(0, 1.0), (1, 1.0), (5, 1.0), (5, float("nan"))])
def test_a_run_with_little_in_it_has_a_report(tmp_path, evals, value):
    with suppress(nas.NothingScored):
        nas.search(SPACE, lambda subnets: [value] * len(subnets), evals=evals, out=tmp_path)
    text = shown(tmp_path, width=60)
    assert ("no subnet was scored" in text) == (evals == 0 or value != value)
    assert ("failed: score is NaN" in text) == (value != value)


def test_square_brackets_are_shown_as_they_are(tmp_path):
    folder = tmp_path / "a[" / "b]c[red]"
    params = params_of(SPACE)
    nas.search(SPACE, synthetic(SPACE), {"params": params, "[/x]": params}, evals=3, out=folder)
    text = shown(folder, width=400)
    assert str(folder) in "".join(text.split()), "titles are wrapped, but whole"
    assert "[/x]" in text


def test_the_report_knows_the_direction_whatever_kind_of_bool_tells_it(tmp_path):
    def distance(subnets):
        return [float(subnet.heads[0]) for subnet in subnets]

    distance.higher_is_better = np.False_
    result = nas.search(SPACE, distance, evals=20, out=tmp_path)
    assert summary(tmp_path)["best"]["score"] == result.best.score == 2.0


def test_what_the_search_left_in_run_json_is_passed_on(tmp_path):
    trust = {"words": ["The model is right in [92 of 100] pairs."], "certificate": "Nothing beats it by 0.01."}
    effects = {"unit": "score", "layers": [], "embed_dims": [], "depths": []}
    nas.search(SPACE, synthetic(SPACE), evals=3, out=tmp_path, settings={"command": "nas search", "macs_seconds": 2.0})
    assert "3 scored subnets are too few" in shown(tmp_path)
    file = tmp_path / "run.json"
    left = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("trust", "effects")}
    file.write_text(json.dumps(left))
    assert (summary(tmp_path)["trust"], summary(tmp_path)["effects"]) == (None, None)
    assert "Trust" not in shown(tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), "trust": trust, "effects": effects}))
    found = summary(tmp_path)
    assert (found["trust"], found["effects"]) == (trust, effects)
    assert (found["command"], found["macs_seconds"], found["seed"], found["maximize"]) == ("nas search", 2.0, 0, True)
    assert space_from_dict(found["space_choices"]) == SPACE
    for words in ("Trust", *trust["words"], trust["certificate"]):
        assert words in shown(tmp_path)


def test_trust_that_is_no_object_is_one_line(tmp_path):
    nas.search(SPACE, synthetic(SPACE), evals=1, out=tmp_path)
    file = tmp_path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "trust": ["sure"]}))
    with pytest.raises(RunError, match=r"trust in run.json must be an object"):
        summary(tmp_path)


@pytest.mark.parametrize("added", [{"trust": {"words": 3}}, {"verification": {"candidates": [{}], "winner": 0}}])
def test_what_no_search_writes_is_one_line(tmp_path, added):
    nas.search(SPACE, synthetic(SPACE), evals=1, out=tmp_path)
    file = tmp_path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **added}))
    with pytest.raises(RunError, match=r"run\.json are not as the search writes them"):
        report_run(tmp_path)


def test_a_long_front_is_thinned_with_both_ends(tmp_path):
    def worth(subnets):
        return [float(params_of(SPACE).of(subnet)) for subnet in subnets]

    result = nas.search(SPACE, worth, {"params": params_of(SPACE)}, searcher="random", evals=60, out=tmp_path)
    assert len(result.front) > 20
    text = " ".join(shown(tmp_path, width=200).split())
    assert f"{len(result.front)} subnets (20 shown)" in text
    rows = text.split("Front")[1]
    assert result.front[0].subnet.id in rows
    assert result.front[-1].subnet.id in rows


def test_a_folder_without_a_run_is_one_line(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        summary(tmp_path)
