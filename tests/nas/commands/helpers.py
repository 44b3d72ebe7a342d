"""Runs `nas` as its users do: in a process of its own."""

import subprocess
import sys

NAS = (sys.executable, "-m", "cli")
BUDGET = ("--budget", "params<=2.5M")


def nas(*arguments, cwd=None, **options):
    """The finished process; standard output and error as text."""
    command = [*NAS, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, **options)
