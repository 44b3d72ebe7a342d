"""Completion as bash asks for it, by typer's own protocol: fast, because torch is not imported."""

import os
import subprocess
import sys

import pytest

import cli
from nas.commands.completion import COMPLETIONS, completer_of
from tests.nas.commands.helpers import NAS


@pytest.fixture
def press_tab(monkeypatch, capsys):
    """What bash is offered when Tab is pressed at the end of a line."""

    def press(line):
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        monkeypatch.setenv("_NAS_COMPLETE", "complete_bash")
        with pytest.raises(SystemExit):
            cli.app(prog_name="nas", standalone_mode=False)
        return capsys.readouterr().out.split()

    return press


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("nas sp", ["space", "specialise"]),
        ("nas space light", ["lighthubert-base", "lighthubert-small"]),
        ("nas search --searcher e", ["exact", "evolution"]),
        ("nas search --supernet ", ["hubert-tiny"]),
        ("nas search --space f", ["fine"]),
        ("nas search --budget lat", ["latency_ms"]),
        ("nas search --objective s", ["score"]),
        ("nas search --score distillation+k", ["distillation+kl"]),
        ("nas sweep --searcher optuna-g", ["optuna-gp"]),
        ("nas export runs/a --format json,o", ["json,onnx"]),
        ("nas compress x --formats s3", ["s3prl"]),
        ("nas eval --task a", ["asr"]),
        ("nas train --space hub", ["hubert-tiny"]),
        ("nas latency cal", ["calibrate"]),
        ("nas search --out ", []),  # bash then offers files
    ],
)
def test_names_are_offered(press_tab, line, offered):
    assert press_tab(line) == offered


def test_bash_completes_with_the_script_that_it_is_given(tmp_path):
    (tmp_path / "nas").write_text(f'#!/bin/sh\nexec {" ".join(NAS)} "$@"\n')
    (tmp_path / "nas").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    press_tab = """
        eval "$(nas --show-completion bash)"
        COMP_WORDS=(nas search --searcher ev) COMP_CWORD=3
        $(complete -p nas | sed 's/.*-F \\([^ ]*\\).*/\\1/') nas
        echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", press_tab], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("evolution\n", "")


def test_no_command_and_no_name_needs_torch():
    code = """
import sys, cli
from nas.commands.completion import COMPLETIONS, completer_of
group = cli.typer.main.get_command(cli.app)
for name in cli.COMMANDS:
    group.get_command(None, name)
assert all(completer_of(name)("") for name in COMPLETIONS)
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_option_that_is_completed_exists():
    group = cli.typer.main.get_command(cli.app)
    options = set()
    for name in cli.COMMANDS:
        command = group.get_command(None, name)
        parts = getattr(command, "commands", {name: command}).values()
        options |= {flag for part in parts for parameter in part.params for flag in parameter.opts}
    assert set(COMPLETIONS) - {"space"} <= options
    assert completer_of("--evals") is None
