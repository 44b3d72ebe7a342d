"""The command line as its users meet it: real processes, exit statuses and one clear line."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import cli
from evaluators.costs import params
from search_spaces import get_space
from tests.nas.commands.helpers import nas

ROOT = Path(__file__).parents[1]
SMALLEST = params(get_space("hubert-tiny")).table.range()[0]
TRAIN = ("train", "--teacher", "missing", "--audio", "missing.jsonl")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("space", "nothing"), 2, "unknown space 'nothing'; known: lighthubert-base"),
        (("space", "hubert-tiny", "--budget", "weight<=3"), 2, "weight"),
        (("space", "hubert-tiny", "--budget", "params<=3X"), 2, "params<=3X"),
        (("space", "hubert-tiny", "--budget", "params<3M"), 2, "<="),
        (("space", "hubert-tiny", "--budget", "params<=10K"), 3, f"the smallest has {SMALLEST:,} params (subnet {{"),
        (("search", "--budget", "params<=10K", "--out", "x"), 3, f"the smallest has {SMALLEST:,} params (subnet {{"),
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
        (("search", "--async", "--out", "x"), 2, "--async has no effect without --ray"),
        (("search", "--out", "nowhere://x"), 2, "cannot use nowhere://x"),
        (("sweep",), 2, "a sweep needs a folder"),
        (("sweep", "--resume", "missing"), 2, "missing holds no sweep"),
        (("status", "missing"), 2, "missing holds no run"),
        (("search", "--score", "magic", "--out", "x"), 2, "a score is distillation, probe:LABEL, or a sum"),
        (("search", "--score", "probe:speaker", "--out", "x"), 2, "needs speech with that label (--audio"),
        (("convert", "nothing", "--out", "x"), 2, "no supernet 'nothing'"),
        (("convert", "hubert-tiny", "--out", "/dev/null"), 2, "is not an empty folder"),
        (("report", "missing"), 2, "missing"),
        (("export", "missing.json", "--supernet", "hubert-tiny", "--out", "x"), 2, "cannot read subnet"),
        (("export", "missing.json", "--out", "x"), 2, "say which supernet"),
        (("cost", "--subnet", "missing.json"), 2, "cannot read subnet"),
        (("cost", "--seconds", "0.01"), 2, "too short for one frame"),
        (("export",), 2, "Missing argument 'source' (try "),
        (("export", "runs/a"), 2, "Missing option '--out' (try "),
        (("search", "--evals", "x"), 2, "Invalid value for '--evals'"),
        (("search", "--evls", "3"), 2, "No such option: --evls; did you mean --evals? (try "),
        (("convert", "hubert-tiny", "--no-sort", "--audio", "a", "--out", "x"), 2, "--audio has no effect with --no-s"),
        ((*TRAIN, "--out", "x", "--init", "hubert-tiny", "--stage1-steps", "9"), 2, "no effect with --init"),
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


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_traceback(tmp_path, closed):
    command = f"{sys.executable} -m cli space hubert-tiny {closed}"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def _verbs(command, path=("nas",)):
    """Every command below `command`, with its full name."""
    for name in getattr(command, "commands", {}):
        below = command.get_command(None, name)
        yield from _verbs(below, (*path, name)) if hasattr(below, "commands") else [(" ".join((*path, name)), below)]


VERBS = dict(_verbs(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("name", VERBS)
def test_every_command_shows_an_example_of_itself_that_is_valid(name):
    """Its options and arguments are parsed as typed; files are not looked for."""
    example = re.fullmatch(r"Example: (.+)", VERBS[name].epilog.replace("\\[", "["))[1]
    words = shlex.split(example)
    assert " ".join(words).startswith(f"{name} ") or example == name
    VERBS[name].make_context(name, words[len(name.split()) :])


def test_nas_alone_shows_an_example():
    assert "Example: nas search" in nas().stdout
