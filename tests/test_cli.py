"""The command line as its users meet it: real processes, real supernet, exit statuses and one clear line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli import main

NAS = (sys.executable, "-m", "cli")
BUDGET = ("--budget", "params<=2.5M")
TRAIN = ("train", "--teacher", "missing", "--audio", "missing.jsonl")


def nas(*arguments, cwd=None, **options):
    command = [*NAS, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run folder."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    done = nas("search", *BUDGET, "--evals", 8, "--batch", 4, "--out", folder, "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


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
    assert "a run without a finished evaluation has nothing to export" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_formats_are_listed():
    done = nas("export", "--list")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("json", "onnx", "torch-export", "hf", "s3prl", "lighthubert"))


def test_the_same_seed_is_the_same_run_and_a_resumed_run_goes_on(run, tmp_path):
    folder, _ = run
    short = nas("search", *BUDGET, "--evals", 4, "--batch", 4, "--out", tmp_path / "b")
    assert short.returncode == 0, short.stderr
    longer = nas("search", "--resume", tmp_path / "b", "--evals", 8)
    assert longer.returncode == 0, longer.stderr
    found = []
    for ledger in (folder / "ledger.jsonl", tmp_path / "b" / "ledger.jsonl"):
        lines = map(json.loads, ledger.read_text().splitlines())
        found.append([(line["subnet"], line["score"]) for line in lines])
    assert found[0][:4] == found[1][:4]
    assert len(found[1]) == 8


def test_a_space_is_counted():
    shown = json.loads(nas("space", "lighthubert-small", "--budget", "params<=13.1M", "--json").stdout)
    assert shown["size"] == 951_892_141_473
    assert shown["fits"] / shown["size"] == pytest.approx(0.00086, abs=1e-5)  # measured by drawing, too: FACTS


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("space", "nothing"), 2, "unknown space 'nothing'; known: lighthubert-base"),
        (("space", "hubert-tiny", "--budget", "weight<=3"), 2, "weight"),
        (("space", "hubert-tiny", "--budget", "params<=3X"), 2, "params<=3X"),
        (("space", "hubert-tiny", "--budget", "params<3M"), 2, "<="),
        (("space", "hubert-tiny", "--budget", "params<=1M"), 3, "the smallest has 1,123,584 params (subnet {"),
        (("search", "--budget", "params<=1M", "--out", "x"), 3, "the smallest has 1,123,584 params (subnet {"),
        (("search", "--budget", "latency_ms<=0.01", "--evals", "2", "--out", "x"), 3, "the fastest takes about"),
        (("search", "--budget", "latency_ms<=9@tflite", "--out", "x"), 2, "unknown backend 'tflite'"),
        (("search", "--budget", "latency_ms<=9@cuda.json", "--out", "x"), 2, "cannot read calibration cuda.json"),
        (("search", "--budget", "latency_ms<=9@torch,threads=999", "--out", "x"), 2, "cores of this machine"),
        (("latency", "measure", "--target", "torch,speed=3"), 2, "unknown word 'speed' in a target"),
        (("latency", "measure", "missing.json"), 2, "cannot read subnet"),
        (("latency", "calibrate", "--measurements", "3"), 2, "12 to 200 measurements; got 3"),
        (("latency", "fit", "--csv", "missing.csv"), 2, "cannot read missing.csv"),
        (("latency", "show", "missing.json"), 2, "cannot read calibration missing.json"),
        (("search", "--budget", "params<=1.2M", "--budget", "macs<=139.1M", "--evals", "1", "--out", "x"), 0, ""),
        (("search", "--supernet", "nothing", "--out", "x"), 2, "no supernet 'nothing'"),
        (("search", "--searcher", "magic", "--out", "x"), 2, "magic"),
        (("search", "--objective", "beauty", "--out", "x"), 2, "beauty"),
        (("search", "--device", "cuda", "--out", "x"), 2, "device=cuda is not on this machine"),
        (("search", "--device", "tpu", "--out", "x"), 2, "device must be cpu or cuda"),
        (("search", "--audio", "missing.jsonl", "--out", "x"), 2, "cannot read manifest"),
        (("search", "--resume", "missing"), 2, "not a run folder"),
        (("search", "--ray", "nowhere", "--out", "x"), 2, "--ray must be local, auto or host:port"),
        (("search", "--async", "--out", "x"), 2, "asynchronous=True needs an executor"),
        (("search", "--out", "nowhere://x"), 2, "cannot use nowhere://x"),
        (("sweep",), 2, "a sweep needs a folder"),
        (("sweep", "--resume", "missing"), 2, "missing holds no sweep"),
        (("status", "missing"), 2, "missing holds no run"),
        (("search", "--score", "magic", "--out", "x"), 2, "a score is distillation, probe:LABEL, or a sum"),
        (("search", "--score", "probe:speaker", "--out", "x"), 2, "needs speech with that label (--audio"),
        (("convert", "nothing", "--out", "x"), 2, "no supernet 'nothing'"),
        (("convert", "hubert-tiny", "--out", "."), 2, "exists: give a new folder"),
        (("report", "missing"), 2, "missing"),
        (("export", "missing.json", "--supernet", "hubert-tiny", "--out", "x"), 2, "cannot read subnet"),
        (("export", "missing.json", "--out", "x"), 2, "say which supernet"),
        (("cost", "--subnet", "missing.json"), 2, "cannot read subnet"),
        (("cost", "--seconds", "0.01"), 2, "too short for one frame"),
        ((*TRAIN, "--out", "x"), 2, "needs config.json"),
        ((*TRAIN, "--out", "x", "--budget", "params<=1K"), 3, "params<=1"),
        ((*TRAIN, "--out", "x", "--budget", "latency_ms<=1"), 2, "unknown cost 'latency_ms'"),
        ((*TRAIN, "--out", "x", "--teacher-layers", "2+last"), 2, "such as 2,4,6 or 2+4+6; got '2+last'"),
    ],
)
def test_bad_words_end_with_one_clear_line(arguments, status, said, tmp_path):
    done = nas(*arguments, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    if status:
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("nas: ")


@pytest.mark.slow
def test_a_latency_budget_is_calibrated_for_kept_and_measured_again(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    target = "torch,seconds=0.1"
    made = nas("latency", "calibrate", "--target", target, "--measurements", 24, "--json", env=environment)
    assert made.returncode == 0, made.stderr
    calibration = json.loads(made.stdout)
    least = calibration["range_ms"][0] * (1 + calibration["margin"])  # the bound, however noisy the machine is
    budget = f"latency_ms<={1.1 * least:.3f}@{target}"
    run = tmp_path / "run"
    done = nas("search", "--budget", budget, "--evals", 4, "--out", run, env=environment)
    assert done.returncode in (0, 4), done.stderr
    if done.returncode == 0:
        (measured,) = json.loads((run / "best.json").read_text())["measured"].values()
        assert measured["measured_at_most_ms"] <= measured["limit_ms"]
    else:  # a machine that was busy just then
        assert "missed" in done.stderr
    (kept,) = json.loads(nas("latency", "show", "--json", env=environment).stdout)
    elsewhere = json.loads(Path(kept).read_text())
    elsewhere["machine"]["cpu"] = "Z80"
    Path(kept).write_text(json.dumps(elsewhere))
    refused = nas("search", "--budget", budget, "--evals", 4, "--out", tmp_path / "b", env=environment)
    assert refused.returncode == 2
    assert "another machine" in refused.stderr
    (tmp_path / "z80.json").write_text(json.dumps(elsewhere))
    brought = budget.replace(target, str(tmp_path / "z80.json"))
    done = nas("search", "--budget", brought, "--evals", 4, "--out", tmp_path / "c", env=environment)
    assert done.returncode == 0, done.stderr
    assert "not verified" in done.stderr


@pytest.mark.parametrize(
    "option",
    [
        ("--searcher", "random"),
        ("--score", "probe:text"),
        ("--space", "x.toml"),
        ("--seed", "3"),
        ("--budget", "macs<=1G"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(run, option):
    again = nas("search", "--resume", run[0], *option)
    assert again.returncode == 2
    assert "was begun with" in again.stderr
    assert again.stderr.count("\n") == 1


def test_a_search_aims_at_a_mix_of_scores(tmp_path):
    import numpy as np
    import soundfile

    rng, lines = np.random.default_rng(0), []
    for i in range(28):
        tone = np.sin(2 * np.pi * (150, 600)[i % 2] * rng.uniform(0.9, 1.1) * np.arange(4800) / 16_000)
        soundfile.write(tmp_path / f"{i}.wav", (0.3 * tone + 0.02 * rng.normal(size=4800)).astype(np.float32), 16_000)
        line = {"audio": f"{i}.wav", "seconds": 0.3, "split": "dev" if i < 8 else "train", "speaker": "ab"[i % 2]}
        lines.append(json.dumps(line))
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    aim = ("--score", "probe:speaker+0.5*distillation", "--audio", tmp_path / "m.jsonl")
    done = nas("search", *BUDGET, *aim, "--evals", 4, "--batch", 4, "--out", tmp_path / "a", "--json")
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "a" / "run.json").read_text())
    assert kept["settings"]["score"] == aim[1]
    assert kept["score"]["name"] == aim[1]
    assert nas("search", "--resume", tmp_path / "a", "--evals", 6).returncode == 0
    scores = [json.loads(line)["score"] for line in (tmp_path / "a" / "ledger.jsonl").read_text().splitlines()]
    assert json.loads((tmp_path / "a" / "best.json").read_text())["score"] == max(scores)


def test_reports_compare_runs_and_write_files(run, tmp_path):
    import optuna

    folder, _ = run
    other = nas("search", *BUDGET, "--searcher", "random", "--evals", 4, "--out", tmp_path / "b")
    assert other.returncode == 0, other.stderr
    done = nas("report", folder, tmp_path / "b", "--journal", tmp_path / "study.log")
    assert done.returncode == 0, done.stderr
    page = (folder / "report.html").read_text()
    assert "exact" in page
    assert "random" in page
    assert "https://" not in page.split("<script", 1)[0]
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log")))
    assert len(optuna.load_study(study_name="hubert-tiny", storage=storage).trials) == 8


def test_a_run_folder_is_not_overwritten(run):
    again = nas("search", *BUDGET, "--out", run[0])
    assert again.returncode == 2
    assert "--resume" in again.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_searches_keep_what_is_done(how, tmp_path):
    command = [*NAS, "search", *BUDGET, "--evals", "40", "--batch", "2", "--out", str(tmp_path / "a")]
    ledger = tmp_path / "a" / "ledger.jsonl"
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        for _ in range(2_000):
            if process.poll() is not None or (ledger.exists() and ledger.read_text().count("\n") >= 4):
                break
            time.sleep(0.05)
        process.send_signal(how)
        _, stderr = process.communicate()
    assert process.returncode in (130, -how)
    if how == signal.SIGINT:
        assert "nas search --resume" in stderr
    before = [line for line in ledger.read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert nas("search", "--resume", tmp_path / "a").returncode == 0
    after = ledger.read_text().splitlines(keepends=True)
    assert after[: len(before)] == before
    assert len({json.loads(line)["id"] for line in after}) == len(after) == 40


def test_a_run_folder_in_use_is_left_alone(tmp_path):
    command = [*NAS, "search", *BUDGET, "--evals", "500", "--batch", "2", "--out", str(tmp_path / "a")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        for _ in range(2_000):
            if (tmp_path / "a" / "ledger.jsonl").exists():
                break
            time.sleep(0.05)
        second = nas("search", "--resume", tmp_path / "a")
        process.kill()
    assert second.returncode == 2
    assert str(process.pid) in second.stderr


def test_bench_prints_its_rows(monkeypatch):
    from typer.testing import CliRunner

    from cli import app
    from nas.commands.speed_rows import Row

    rows = [Row("score 64 subnets", "one by one", ">= 6x", [5.0, 7.0, 9.0], "note")]
    monkeypatch.setattr("nas.commands.speed_rows.machine_rows", lambda evolve: iter(rows))
    shown = CliRunner().invoke(app, ["bench"], env={"COLUMNS": "200"})
    assert "7.0x (5.0 – 9.0)" in shown.stdout
    (record,) = json.loads(CliRunner().invoke(app, ["bench", "--json"]).stdout)
    assert (record["work"], record["ratios"]) == ("score 64 subnets", [5.0, 7.0, 9.0])


def test_a_search_in_which_nothing_could_be_scored_still_shows_its_report(tmp_path, monkeypatch, capsys):
    class Broken:
        name, higher_is_better = "broken", True

        def __call__(self, subnets):
            return [float("nan")] * len(subnets)

    monkeypatch.setattr("evaluators.scores.get_score", lambda *arguments: Broken())
    monkeypatch.setattr("sys.argv", ["nas", "search", "--evals", "4", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 4
    assert "4 failed" in said.out
    assert "all 4 evaluations failed; the first: score is NaN" in said.err
    assert (tmp_path / "run" / "report.html").exists()
