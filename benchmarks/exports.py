"""How much faster, smaller and worse exports are than the sliced supernet, LightHuBERT's way to run a subnet.

python benchmarks/exports.py --folder exported/benchmark --audio speech/manifest.jsonl --teacher whisper-base-encoder \
    [--write] [--threads 1]

`--write` writes and scores the exports and ends; without it those in `--folder` are timed (alone on the machine,
please). Every way runs once a round, in an order that turns; ratios are taken within a round, against the sliced
supernet. LightHuBERT's weights are random here: time does not depend on them, and they have no score.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _common import header
from rich.console import Console
from rich.table import Table

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
    """Every case as ONNX of each dtype and as .pt2, those that are missing; what they lose into scores.json."""
    file = folder / "scores.json"
    lost: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
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
            lost[f"{name} {dtype}"] = (
                distance.of_export(subnet, OnnxHubert(target / "model.onnx")) - distance([subnet])[0]
            )
            print(f"{name}, {dtype}: {lost[f'{name} {dtype}']:+.5f}, on {distance.seconds} s", flush=True)
            file.write_text(json.dumps(lost), encoding="utf-8")


def ways(
    folder: Path, model: HubertSupernet, subnet: Subnet, wav: torch.Tensor, threads: int
) -> dict[str, tuple[Callable[[], Any], int]]:
    """What runs `wav`, and the bytes it needs on disk."""
    net = model.extract(subnet)
    program = torch.export.load(folder / "pt2" / "model.pt2").module()
    mask = attention_mask(wav, None)
    size = 4 * sum(value.numel() for value in model.parameters())
    found: dict[str, tuple[Callable[[], Any], int]] = {
        "sliced supernet (LightHuBERT's way)": (lambda: model(wav), size),
        "extracted module, eager": (lambda: net(wav), 4 * sum(value.numel() for value in net.parameters())),
        "torch.export": (lambda: program(wav, mask), (folder / "pt2" / "model.pt2").stat().st_size),
    }
    feeds = {"input_values": wav.numpy(), "attention_mask": mask.numpy()}
    for file in (folder / dtype / "model.onnx" for dtype in ("fp32", "fp16", "int8")):
        if not file.exists():
            continue
        session = OnnxHubert(file, threads).session
        found[f"onnxruntime {file.parent.name}"] = (
            lambda session=session: session.run(["last_hidden_state"], feeds),  # type: ignore[misc]
            file.stat().st_size,
        )
    return found


@torch.inference_mode()
def measure(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each, one a round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for turn in range(rounds + 3):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            before = time.perf_counter()
            runs[name]()
            if turn >= 3:  # warm by then
                times[name].append(1e3 * (time.perf_counter() - before))
    return times


def said(values: list[float], form: str) -> str:
    """Median and the middle half."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:{form}} ({low:{form}} – {high:{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    lost = json.loads((arguments.folder / "scores.json").read_text(encoding="utf-8"))
    console = Console(width=120)
    wav = torch.randn(1, round(arguments.seconds * 16_000), generator=torch.Generator().manual_seed(0))
    for name, (model, subnet) in cases().items():
        with model.active(subnet):
            found = ways(arguments.folder / name, model, subnet, wav, arguments.threads)
            times = measure({way: run for way, (run, _) in found.items()}, arguments.rounds)
        table = Table(title=f"{name} ({subnet.id}), {arguments.seconds:g} s, {arguments.threads} threads")
        for column in ("way", "ms", "of sliced", "MB", "score lost"):
            table.add_column(column)
        sliced = next(iter(times.values()))
        for way, own in times.items():
            ratios = [a / b for a, b in zip(own, sliced, strict=True)]
            score = lost.get(f"{name} {way.split()[-1]}")
            size = f"{found[way][1] / 1e6:.1f}"
            table.add_row(way, said(own, ".1f"), said(ratios, ".2f"), size, "" if score is None else f"{score:+.5f}")
        console.print(table)
    console.print(header())


if __name__ == "__main__":
    main()
