"""`nas finetune`: a whole subnet trained on a task."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from evaluators.tasks import TASKS, FinetuneSettings, get_task
from nas.commands.common import DeviceOption, JsonOption, require_device
from nas.commands.console import err, out, print_json
from nas.commands.options import verb
from search_spaces.types import JsonObject

__all__ = ["app"]

app = typer.Typer(add_completion=False)
_TUNED = ", ".join(name for name in TASKS if get_task(name).instead is None)


@verb(
    app,
    example="nas finetune --model exported/ --task asr --manifest speech/manifest.jsonl --out tuned/",
    without=("validate_every", "checkpoint_every"),
)
def finetune(
    model: Annotated[Path, typer.Option(help="Folder of `nas export` (safetensors).")],
    task: Annotated[str, typer.Option(help=f"One of {_TUNED}.")],
    manifest: Annotated[Path, typer.Option(help="Manifest, or the folder of a corpus whose layout is known.")],
    out_: Annotated[Path, typer.Option("--out", help="Folder to write; run the same command again to continue.")],
    settings: FinetuneSettings,
    alphabet: Annotated[str | None, typer.Option(help="Letters that count in asr; others become spaces.")] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave recordings without the label out.")
    ] = False,
    minutes: Annotated[float | None, typer.Option(help="Stop with a checkpoint after this long.")] = None,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Train an exported subnet on a task as a whole, classes or CTC, and report its figures on test."""
    from evaluators.tasks.finetune import finetune as tune

    require_device(device)
    stop_after = math.inf if minutes is None else 60 * minutes
    try:
        record: JsonObject | None = tune(
            model, task, manifest, out_, settings, device, skip_missing, alphabet, stop_after, err.print
        )
    except KeyboardInterrupt:
        err.print(
            f"interrupted; run the same command again to continue from the last checkpoint in {out_}", soft_wrap=True
        )
        raise typer.Exit(130) from None
    if record is None:
        out.print(f"stopped; run the same command again to continue ({out_})", soft_wrap=True)
    elif json:
        print_json(record)
    else:
        for name, value in record["results"].items():
            out.print(f"{name} {value['value']:.4f} (95 % {value['low']:.4f} – {value['high']:.4f})")
        out.print(f"fine-tuned subnet: {out_}", soft_wrap=True)
