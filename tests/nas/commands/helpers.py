"""Runs `nas` in a process of its own, as its users do, forked from one that has imported torch: that takes seconds."""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

NAS = (sys.executable, "-m", "cli")
BUDGET = ("--budget", "params<=2.5M")

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["cli", "nas.commands.search", "evaluators.scores.teacher_distance", "transformers.models.hubert.modeling_hubert"]
)


def nas(*arguments, cwd=None, env=None, around=None):
    """The finished process; standard output and error as text. The command runs in `around`, a context manager."""
    words = [*map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _PROCESSES.Process(
            target=_run, args=(words, cwd or Path.cwd(), dict(env or os.environ), files, around)
        )
        process.start()
        process.join()
        texts = [file.read_text("utf-8") for file in files]
    return subprocess.CompletedProcess([*NAS, *words], process.exitcode, *texts)


def _run(words, folder, environment, files, around):
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY), number)
    sys.argv, sys.path[:0] = ["nas", *words], [os.fspath(folder)]
    import cli

    with around or contextlib.nullcontext():
        cli.main()
