"""`nas`: registers the commands and runs them. What they do is in `nas/commands/`, one verb a file."""

import os
import sys
import warnings
from importlib import import_module
from importlib.metadata import version
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
}
UsageError: Any = typer.BadParameter.__base__  # typer has no public name for it


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
    try:
        status = app(standalone_mode=False)
    except UsageError as error:
        possible = list(getattr(error, "possibilities", None) or [])
        text = f"{error.message}; did you mean {possible[0]}?" if possible else error.format_message().rstrip(".")
        _fail(f"{text} (try {error.ctx.command_path if error.ctx else 'nas'} --help)", 2)
    except OSError as error:
        _fail(f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else ""), 2)
    except ValueError as error:
        if not hasattr(error, "exit_status"):  # a NasError has one
            raise
        _fail(str(error), error.exit_status)
    raise SystemExit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> NoReturn:
    print("nas: " + import_module("search_spaces.text").one_line(message), file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
