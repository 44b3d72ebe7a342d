"""`nas eval`: small heads on a frozen subnet, as SUPERB trains them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluators.tasks import TASKS, FitSettings
from nas.commands.common import DeviceOption, JsonOption, read_subnet, require_device, weights_of
from nas.commands.console import counting, err, out, print_json, read_json, table
from nas.commands.identity import check_weights
from nas.commands.options import verb
from nas.report.formatting import interval_text
from search_spaces import NasError, Subnet
from search_spaces.files import write_json
from search_spaces.settings import Settings, option
from search_spaces.types import JsonMapping, JsonObject

if TYPE_CHECKING:
    from supernet import HubertSupernet

__all__ = ["app"]

app = typer.Typer(add_completion=False)

RECOGNITION = "transcription"
_HEADS, _OWN = "Heads", f"Of {RECOGNITION}"
_SHOWN = ("wer", "cer", "ce")


@dataclass(frozen=True)
class _HeadSettings(Settings):
    hidden: int = option(
        0, "Units of asr's BLSTM each way (0: linear), or of diarization's LSTM (0: 512).", group=_HEADS, minimum=0
    )
    beam: int = option(1, "Beam of asr's decoder; 1: greedy.", group=_HEADS, minimum=1)
    alphabet: str | None = option(None, "Letters that count in asr; others become spaces.", group=_HEADS)
    skip_missing: bool = option(False, "Leave recordings without the label out.", group=_HEADS)
    cache: Path | None = option(None, "Folder that keeps hidden states for the next task.", group=_HEADS, output=True)


@dataclass(frozen=True)
class _RecognitionSettings(Settings):
    split: str = option("test", "Split to transcribe.", group=_OWN)
    window: float = option(15.0, "Least seconds that are heard at once.", group=_OWN, minimum=1, maximum=30)
    recordings: int | None = option(
        None, "At most so many recordings, evenly spaced; default: all.", group=_OWN, minimum=1
    )
    against: Path | None = option(
        None, "Result (--out) of another model on the same recordings, to compare with.", group=_OWN, path=True
    )


@verb(app, name="eval", example="nas eval --model exported/ --task asr --manifest speech/manifest.jsonl")
def evaluate_task(
    model: Annotated[str, typer.Option(help="Exported folder, or a supernet's name or path.")],
    task: Annotated[
        str, typer.Option(help=f"One of {', '.join(TASKS)}; or {RECOGNITION}: a whole Whisper's own, nothing trained.")
    ],
    manifest: Annotated[Path, typer.Option(help="Manifest, or the folder of a corpus whose layout is known.")],
    settings: FitSettings,
    heads: _HeadSettings,
    own: _RecognitionSettings,
    subnet: Annotated[Path | None, typer.Option(help="JSON file of the supernet's subnet; default: largest.")] = None,
    device: DeviceOption = "cpu",
    out_: Annotated[
        Path | None, typer.Option("--out", help="JSON file to write the result to.", rich_help_panel="Output")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train small heads on a frozen subnet's hidden states, as SUPERB does, and report their figures on test."""
    require_device(device)
    chosen = None if subnet is None else read_subnet(subnet, None)
    check = partial(_check, subnet)
    if task == RECOGNITION:
        if (settings, heads) != (FitSettings(), _HeadSettings()):
            raise NasError(f"{RECOGNITION} trains nothing: options of heads have no effect on it")
        _transcribe(model, chosen, check, manifest, own, device, out_, json)
        return
    if own != _RecognitionSettings():
        raise NasError(f"--split, --window, --recordings and --against are of the task {RECOGNITION}; got {task}")
    from evaluators.tasks.evaluation import evaluate
    from evaluators.tasks.features import load_upstream

    upstream = load_upstream(model, chosen, device, check)
    with counting("hidden states") as progress:
        record = evaluate(
            upstream,
            task,
            manifest,
            settings,
            device,
            heads.cache,
            heads.skip_missing,
            heads.alphabet,
            heads.hidden,
            heads.beam,
            partial(err.print, soft_wrap=True),
            progress,
        )
    if out_ is not None:
        write_json(out_, record)
    if json:
        print_json(record)
    else:
        _show(task, record)


def _transcribe(
    model: str,
    subnet: Subnet | None,
    check: Callable[[HubertSupernet], None],
    manifest: Path,
    own: _RecognitionSettings,
    device: str,
    file: Path | None,
    json: bool,
) -> None:
    from evaluators.tasks.recognition import Recogniser, compared, recognition

    other: JsonObject | None = None
    if own.against is not None:
        other = read_json(own.against, "nas eval --out writes one")
    recogniser = Recogniser.of(model, subnet, device, check)
    with counting("recordings") as progress:
        record = recognition(recogniser, manifest, own.split, own.window, progress, own.recordings)
    if other is not None:
        record["against"] = compared(record, other)
    if file is not None:
        write_json(file, record)
    if json:
        print_json(record)
        return
    shown = table(f"{model} on {manifest}, split {own.split}", ("recordings", "of", "WER", "CER", "nats a token"))
    for group, figures in {"all": record["results"], **record["groups"]}.items():
        shown.add_row(group, str(figures["recordings"]), *(interval_text(figures[name]) for name in _SHOWN))
    out.print(shown)
    if other is None:
        return
    shown = table(f"higher than those of {other['model']['model']} by", ("recordings", "WER", "CER", "nats a token"))
    for group, figures in {"all": record["against"]["results"], **record["against"]["groups"]}.items():
        shown.add_row(group, *(interval_text(figures[name]) for name in _SHOWN))
    out.print(shown)


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
