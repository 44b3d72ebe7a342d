"""What several commands need: models and devices, subnets and spaces from files, the costs that budgets name."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.settings import WHERE
from search_spaces import AdditiveTable, Budget, NasError, Space, Subnet
from search_spaces.files import read_text
from search_spaces.proposals import space_for

if TYPE_CHECKING:
    from supernet import HubertSupernet

__all__ = [
    "BudgetOption",
    "DeviceOption",
    "JsonOption",
    "SecondsOption",
    "SupernetOption",
    "command_line",
    "computes_bf16",
    "confine",
    "costs_line",
    "limits",
    "load_model",
    "note_of_precision",
    "read_subnet",
    "require_device",
    "weights_of",
    "write_page",
]

SupernetOption = Annotated[
    str, typer.Option(help="Shipped name (hubert-tiny), path of a checkpoint, or a name on the Hub (org/name).")
]
BudgetOption = Annotated[list[str] | None, typer.Option(help="Hard limit, such as 'params<=27M'; repeatable.")]
SecondsOption = Annotated[float, typer.Option(help="Seconds of audio for which MACs are counted.")]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda.", rich_help_panel=WHERE)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.", rich_help_panel="Output")]


def command_line() -> str:
    """The command as the user typed it, quoted for a shell."""
    return shlex.join(["nas", *sys.argv[1:]])


def computes_bf16(device: str) -> bool:
    """Whether the device computes in bf16: CPUs without it emulate it, slowly."""
    import torch

    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return device != "cpu" or bool(onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def note_of_precision(device: str, precision: str) -> str:
    """What to tell who trains or scores in bf16 on a CPU that emulates it; else ""."""
    slow = precision == "bf16" and not computes_bf16(device)
    return "note: this CPU emulates bf16, which is slow; --precision fp32 is faster here" if slow else ""


def require_device(device: str) -> None:
    """Raises `NasError` if this machine lacks `device`."""
    import torch

    if device != "cpu" and not device.startswith("cuda"):
        raise NasError(f"device must be cpu or cuda; got {device!r}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise NasError(f"device={device} is not on this machine; use --device cpu")


def load_model(name: str, device: str) -> HubertSupernet:
    """The supernet of a shipped name or path."""
    from supernet import load_supernet

    require_device(device)
    return load_supernet(name, device=device)


def confine(model: HubertSupernet, space: str | None) -> Space:
    """Confines the supernet to the named part of its space, if one is named; its space from now on.

    `space`: a name, a TOML file, or a kind of `search_spaces.proposals`.
    """
    if space is not None:
        model.use_space(space_for(model.space.network, space))
    return model.space


def read_subnet(file: Path, space: Space | None) -> Subnet:
    """The subnet in a JSON file; raises `NasError` if it is none, or not in `space`."""
    try:
        subnet = Subnet.from_json(read_text(file))
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(f"cannot read subnet {file}: {getattr(error, 'strerror', None) or error}") from None
    if space is not None:
        space.check(subnet)
    return subnet


def weights_of(file: Path) -> object:
    """The weights that a best.json was chosen for; None for other files of subnets."""
    try:
        fields = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError):
        return None
    return fields.get("weights") if isinstance(fields, dict) else None


def limits(tables: Mapping[str, AdditiveTable], budgets: Iterable[str]) -> list[tuple[AdditiveTable, int | float]]:
    """The tables and limits of budgets on costs that a space alone determines."""
    parsed = [Budget.parse(text) for text in budgets]
    for budget in parsed:
        if budget.cost not in tables:
            raise NasError(f"budget on {budget.cost}: a space alone determines {', '.join(tables)}")
    owned = [(tables[budget.cost], budget) for budget in parsed]
    return [(table, budget.of_largest(table.of(table.space.largest)).limit) for table, budget in owned]


def write_page(runs: Sequence[Path], file: Path) -> Path | None:
    """Writes the HTML report; None if plotly is not installed."""
    if find_spec("plotly") is None:
        return None
    from nas.report.html import write_html

    return write_html(runs, file)


def costs_line(costs: Mapping[str, int | float]) -> str:
    """Costs on one line."""
    return ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}" for name, value in costs.items()
    )
