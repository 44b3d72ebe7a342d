"""`nas export`: the main job, and what cannot be exported."""

import json
import re
import shutil

import pytest

from tests.nas.commands.helpers import nas


def test_the_main_job_from_search_to_export(run, tmp_path):
    from evaluators.costs import params
    from supernet import load_extracted, load_supernet

    folder, _ = run
    best = json.loads((folder / "best.json").read_text())
    assert best["costs"]["params"] <= 2_500_000
    assert "Best" in nas("report", folder).stdout
    exported = nas("export", folder, "--out", tmp_path / "out")
    assert exported.returncode == 0, exported.stderr
    assert "equal to the supernet's slice" in exported.stdout
    net = load_extracted(tmp_path / "out")
    assert sum(p.numel() for p in net.parameters()) == params(load_supernet("hubert-tiny"), "exported").of(net.subnet)
    cost = nas("cost", "--subnet", tmp_path / "out" / "subnet.json", "--json")
    assert json.loads(cost.stdout)["params"] == best["costs"]["params"]
    assert nas("export", folder, "--out", tmp_path / "out").returncode == 2


def test_int8_exports_say_what_they_lose_in_the_score(run, tmp_path):
    folder, _ = run
    exported = nas("export", folder, "--format", "json,onnx", "--dtype", "int8", "--out", tmp_path / "out")
    assert exported.returncode == 0, exported.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    best = json.loads((folder / "best.json").read_text())
    assert "within int8's rounding of the supernet's slice" in exported.stdout.replace("\n", " ")
    found = re.search(r"score ([\d.]+), ([+-][\d.]+) of float32's ([\d.]+)", exported.stdout.replace("\n", " "))
    assert float(found[3]) == pytest.approx(best["score"], abs=1e-5)
    assert float(found[2]) == pytest.approx(float(found[1]) - float(found[3]), abs=2e-5)
    assert 0 < abs(float(found[2])) < 0.05
    assert "give --audio to include the front end" in card
    assert f"| params | {best['costs']['params']:,} |" in card
    assert "nas export" in card


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "gguf"), "unknown export format 'gguf'; known: json, safetensors, onnx"),
        (("--format", "hf", "--dtype", "int8"), "format 'hf' is written in fp32 only; got dtype 'int8'"),
        (("--dtype", "int4"), "unknown dtype 'int4'; known: fp32, fp16, int8"),
        (("--format", "lighthubert"), "this one came from elsewhere"),
    ],
)
def test_exports_that_cannot_be_are_refused_in_one_line(run, tmp_path, arguments, said):
    done = nas("export", run[0], "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_finished_evaluation_has_nothing_to_export(run, tmp_path):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text((run[0] / "run.json").read_text())
    done = nas("export", tmp_path / "begun", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "has nothing to export: none of its 0 evaluations has a score" in done.stderr
    assert not (tmp_path / "out").exists()


def test_of_a_run_that_has_not_ended_the_best_so_far_is_exported(run, tmp_path):
    folder = tmp_path / "interrupted"
    shutil.copytree(run[0], folder)
    lines = (folder / "ledger.jsonl").read_text().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_text("".join(lines[:5]))
    (folder / "best.json").unlink()
    settings = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({k: v for k, v in settings.items() if k != "verification"}))
    done = nas("export", folder, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"has not ended: exporting the best of 5 of {settings['evals']} evaluations" in done.stderr
    best = min((json.loads(line) for line in lines[:5]), key=lambda line: line["score"])
    assert json.loads((tmp_path / "out" / "subnet.json").read_text()) == best["subnet"]


def test_the_formats_are_listed():
    done = nas("export", "--list")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("json", "onnx", "torch-export", "hf", "s3prl", "lighthubert"))
