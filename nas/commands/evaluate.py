"""`nas eval`: small heads on a frozen subnet, as SUPERB trains them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluators.tasks import TASKS, FitSettings
from nas.commands.common import DeviceOption, JsonOption, read_subnet, require_device, weights_of
from nas.commands.console import counting, err, out, print_json
from nas.commands.identity import check_weights
from nas.commands.options import verb
from search_spaces.files import write_json
from search_spaces.types import JsonMapping

if TYPE_CHECKING:
    from supernet import HubertSupernet

__all__ = ["app"]

app = typer.Typer(add_completion=False)


@verb(
    app,
    name="eval",
    example="nas eval --model exported/ --task asr --manifest speech/manifest.jsonl",
    without=("patience",),
)
def evaluate_task(
    model: Annotated[str, typer.Option(help="Exported folder, or a supernet's name or path.")],
    task: Annotated[str, typer.Option(help=f"One of {', '.join(TASKS)}.")],
    manifest: Annotated[Path, typer.Option(help="Manifest, or the folder of a corpus whose layout is known.")],
    settings: FitSettings,
    subnet: Annotated[Path | None, typer.Option(help="JSON file of the supernet's subnet; default: largest.")] = None,
    hidden: Annotated[
        int, typer.Option(min=0, help="Units of asr's BLSTM each way (0: linear), or of diarization's LSTM (0: 512).")
    ] = 0,
    beam: Annotated[int, typer.Option(min=1, help="Beam of asr's decoder; 1: greedy.")] = 1,
    alphabet: Annotated[str | None, typer.Option(help="Letters that count in asr; others become spaces.")] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave recordings without the label out.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps hidden states for the next task.")] = None,
    device: DeviceOption = "cpu",
    out_: Annotated[
        Path | None, typer.Option("--out", help="JSON file to write the result to.", rich_help_panel="Output")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train small heads on a frozen subnet's hidden states, as SUPERB does, and report their figures on test."""
    from evaluators.tasks.evaluation import evaluate
    from evaluators.tasks.features import load_upstream

    require_device(device)
    chosen = None if subnet is None else read_subnet(subnet, None)
    upstream = load_upstream(model, chosen, device, partial(_check, subnet))
    with counting("hidden states") as progress:
        record = evaluate(
            upstream,
            task,
            manifest,
            settings,
            device,
            cache,
            skip_missing,
            alphabet,
            hidden,
            beam,
            partial(err.print, soft_wrap=True),
            progress,
        )
    if out_ is not None:
        write_json(out_, record)
    if json:
        print_json(record)
    else:
        _show(task, record)


def _check(subnet: Path | None, model: HubertSupernet) -> None:
    if subnet is not None:
        check_weights(weights_of(subnet), model, subnet)


def _show(task: str, record: JsonMapping) -> None:
    data = record["data"]
    for name, value in record["results"].items():
        if name == "of_which":
            out.print("of which " + ", ".join(f"{part} {rate:.4f}" for part, rate in value.items()))
        elif isinstance(value, dict):
            out.print(f"{name} {value['value']:.4f} (95 % {value['low']:.4f} – {value['high']:.4f})")
    sizes = ", ".join(f"{data[part]:,} {part}" for part in ("train", "dev", "test"))
    out.print(f"{task} on {data['name']}: {sizes} recordings")
    for reason in data["left_out"]:
        out.print(f"left out: {reason}")
