"""Speed, size and loss in score of every export, compared with the sliced supernet (how LightHuBERT runs a subnet).

    python -m benchmarks.exports --folder exported/benchmark --audio speech/manifest.jsonl \
        --teacher whisper-base-encoder --write
    python -m benchmarks.exports --folder exported/benchmark

`--write` writes and scores the exports; without it, the exports in `--folder` are timed (on an otherwise idle machine).
Each form runs once per round, in rotating order; ratios to the sliced supernet are taken within a round. LightHuBERT's
weights are random here: time does not depend on them, and they have no score.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks._common import CONSOLE, command_line, header, markdown_table
from evaluators import scores
from search_spaces import Subnet, get_space
from supernet import HubertSupernet, load_supernet
from supernet.export import export_subnet
from supernet.export.onnx_file import OnnxHubert
from supernet.export.torch_export import attention_mask

SMALL = Subnet(384, (6,) * 12, (4.0,) * 12)  # the subnet that LightHuBERT released


def cases() -> dict[str, tuple[HubertSupernet, Subnet]]:
    tiny = load_supernet("hubert-tiny")
    torch.manual_seed(0)
    small = HubertSupernet(get_space("lighthubert-small"), (12,), 768, "fairseq").eval()
    return {
        "hubert-tiny, middle": (tiny, tiny.space.middle),
        "hubert-tiny, largest": (tiny, tiny.space.largest),
        "lighthubert-small, released subnet": (small, SMALL),
    }


def write(folder: Path, audio: Path, teacher: Path) -> None:
    """Writes the missing exports of every case (.pt2, ONNX of each dtype); their losses in score go to scores.json."""
    file = folder / "scores.json"
    losses: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name, (model, subnet) in cases().items():
        distance = None
        for dtype in ("pt2", "fp32", "fp16", "int8"):
            target = folder / name / dtype
            if target.exists():
                continue
            if dtype == "pt2":
                export_subnet(model, subnet, target, ["torch-export"], {})
                continue
            export_subnet(model, subnet, target, ["onnx"], {}, dtype)
            if model.calibration is None:  # random weights
                continue
            distance = distance or scores.distillation(model, audio=audio, teacher=teacher)
            losses[f"{name} {dtype}"] = (
                distance.of_export(subnet, OnnxHubert(target / "model.onnx")) - distance([subnet])[0]
            )
            print(f"{name}, {dtype}: {losses[f'{name} {dtype}']:+.5f}, on {distance.seconds} s", flush=True)
            file.write_text(json.dumps(losses), encoding="utf-8")


def forms(
    folder: Path, model: HubertSupernet, subnet: Subnet, wav: torch.Tensor, threads: int
) -> dict[str, tuple[Callable[[], object], int]]:
    """A function that runs `wav`, and its size on disk in bytes, by form."""
    net = model.extract(subnet)
    program = torch.export.load(folder / "pt2" / "model.pt2").module()
    mask = attention_mask(wav, None)
    size = 4 * sum(value.numel() for value in model.parameters())
    result: dict[str, tuple[Callable[[], object], int]] = {
        "sliced supernet (LightHuBERT's way)": (lambda: model(wav), size),
        "extracted module, eager": (lambda: net(wav), 4 * sum(value.numel() for value in net.parameters())),
        "torch.export": (lambda: program(wav, mask), (folder / "pt2" / "model.pt2").stat().st_size),
    }
    feeds = {"input_values": wav.numpy(), "attention_mask": mask.numpy()}
    for file in (folder / dtype / "model.onnx" for dtype in ("fp32", "fp16", "int8")):
        if not file.exists():
            continue
        session = OnnxHubert(file, threads).session
        result[f"onnxruntime {file.parent.name}"] = (
            lambda session=session: session.run(["last_hidden_state"], feeds),  # type: ignore[misc]
            file.stat().st_size,
        )
    return result


@torch.inference_mode()
def measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each run, one value per round; the first three rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for turn in range(rounds + 3):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            start = time.perf_counter()
            runs[name]()
            if turn >= 3:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def median_text(values: list[float], form: str) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:{form}} ({low:{form}} – {high:{form}})"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    if arguments.write:
        return write(arguments.folder, arguments.audio, arguments.teacher)
    torch.set_num_threads(arguments.threads)
    losses = json.loads((arguments.folder / "scores.json").read_text(encoding="utf-8"))
    wav = torch.randn(1, round(arguments.seconds * 16_000), generator=torch.Generator().manual_seed(0))
    for name, (model, subnet) in cases().items():
        with model.active(subnet):
            runs = forms(arguments.folder / name, model, subnet, wav, arguments.threads)
            times = measure({form: run for form, (run, _) in runs.items()}, arguments.rounds)
        title = f"{name} ({subnet.id}), {arguments.seconds:g} s, {arguments.threads} threads"
        table = markdown_table(title, "form", "ms", "ratio to sliced", "MB", "loss in score")
        sliced = next(iter(times.values()))
        for form, own in times.items():
            ratios = [a / b for a, b in zip(own, sliced, strict=True)]
            loss = losses.get(f"{name} {form.split()[-1]}")
            size = f"{runs[form][1] / 1e6:.1f}"
            loss_text = "" if loss is None else f"{loss:+.5f}"
            table.add_row(form, median_text(own, ".1f"), median_text(ratios, ".2f"), size, loss_text)
        CONSOLE.print(table)
    CONSOLE.print(header())


if __name__ == "__main__":
    main()
