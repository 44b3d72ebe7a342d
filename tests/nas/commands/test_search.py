"""`nas search`: runs that are killed, resumed, refused."""

import json
import signal
import subprocess
import time

import pytest

from cli import main
from tests.nas.commands.helpers import BUDGET, NAS, nas


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
    assert "was started with" in again.stderr
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


@pytest.mark.parametrize("supported", [True, False])
def test_scoring_in_bf16_where_it_is_emulated_is_told(supported, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("nas.commands.common.computes_bf16", lambda device: supported)
    command = ["nas", "search", "--precision", "bf16", "--evals", "1", "--budget", "params<=0.4M", "--out"]
    monkeypatch.setattr("sys.argv", [*command, str(tmp_path / "run")])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert ("this CPU emulates bf16" in capsys.readouterr().err) == (not supported)


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
