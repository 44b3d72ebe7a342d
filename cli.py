"""`nas`: registers the commands and runs them. What they do is in `nas/commands/`, one verb a file."""

import os
import sys
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from runpy import run_path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

__all__ = ["app", "main"]

COMMANDS = {
    "search": "Find the best subnet within the budgets.",
    "report": "Show what a run found, and write its report.html.",
    "status": "Show how far a run or a sweep is.",
    "sweep": "Search for a family of subnets: budgets x targets x searchers x seeds.",
    "space": "Show a space: choices, size, range of costs, and how many subnets fit.",
    "cost": "Show what a subnet costs, beside other counters.",
    "latency": "Measure and predict the latency of exported subnets.",
    "export": "Write the chosen subnet in other formats, and check what was written.",
    "train": "Distil a supernet from a teacher.",
    "convert": "Turn a pretrained model into a supernet.",
    "specialise": "Train the chosen subnet alone.",
    "compress": "All of these: a pretrained model in, smaller ones out.",
    "eval": "Evaluate a frozen subnet on a downstream task.",
    "finetune": "Fine-tune an exported subnet on a task.",
    "bench": "Compare the speed of scoring, counting and training with plain ways.",
    "doctor": "Show what is installed and where it runs, for a bug report.",
}


class _Verbs(TyperGroup):
    """Imports a command when it is used, so that `nas --help` stays fast."""

    _listing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if self._listing or cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = import_module(f"nas.commands.{'evaluate' if cmd_name == 'eval' else cmd_name}")
        return typer.main.get_command(module.app)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        super().format_help(ctx, formatter)
        self._listing = False


app = typer.Typer(cls=_Verbs, no_args_is_help=True, pretty_exceptions_enable=False)
for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary)(lambda: None)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lighthubert-nas {version('lighthubert-nas')}")
        raise typer.Exit()


@app.callback(epilog="Example: nas search --budget 'params<=2.5M' --out runs/a")
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version, and exit.")
    ] = False,
) -> None:
    """Neural architecture search for speech Transformers: the best subnet of a supernet within a budget."""


def main() -> NoReturn:
    """Runs `nas`. A user's mistake ends in one line on standard error and the error's exit status."""
    sys.stdout, sys.stderr = (each or open(os.devnull, "w") for each in (sys.stdout, sys.stderr))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # any locale can print any name
    warnings.showwarning = lambda message, *where: print(f"nas: note: {message}", file=sys.stderr)
    _check_rooms()
    try:
        status = app(prog_name="nas", standalone_mode=False)
    except Exception as error:
        message, status = import_module("nas.commands.failure").explained(error)
        print(f"nas: {message}\n" if message else "", end="", file=sys.stderr)
    raise SystemExit(status if isinstance(status, int) else 0)


def _check_rooms() -> None:
    """Ends with one line if something else has taken the name of one of our packages."""
    try:
        run_path(str(Path(__file__).with_name("search_spaces") / "rooms.py"))["check_rooms"]()
    except ImportError as error:
        print(f"nas: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
