"""Subnets of a converted Whisper beside each other, each trained alone and all alike: error rates on test sets, paired.

    nas convert whisper-base/ --audio speech.jsonl --out converted
    nas convert whisper-base/ --out magnitude
    nas search --supernet converted --audio speech.jsonl --score kl --holdout --budget 'params<=11.14M' --out runs/50
    python -m benchmarks.whisper converted speech.jsonl --run runs/50 --magnitude magnitude --test short.jsonl \
        --test long.jsonl --out figures --long 1500 --rate 1e-4 --rate 3e-4

For each run: its winner, its best uniform subnet, the uniform one with equal shares of heads and FFN, random ones that
use nine tenths or more of the budget, the winner's sizes cut from a supernet in order of magnitude; untrained: the
winner, and low rank by PCA with as many MACs in its linear layers. With `--long`, the winner is trained so many steps
too, at each `--rate`, and dev chooses among these. With `--target`, the original and the winners are timed. Test sets
are manifests with the split test. What is done is kept in `--out`: a killed benchmark goes on.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks._common import command_line, header
from benchmarks.low_rank import low_rank, macs_a_frame
from evaluators.costs import params
from evaluators.costs.latency.measure import measure
from evaluators.costs.latency.target import Target
from evaluators.tasks.recognition import Recogniser, compared, kept_recognition, recognition
from nas.report.formatting import interval_text
from nas.report.run import read_report
from search_spaces import AdditiveTable, Space, Subnet
from search_spaces.files import read_text, write_json
from search_spaces.types import JsonObject
from supernet import load_supernet
from supernet.audio import load_audio, read_manifest
from supernet.decoder import TextDecoder
from supernet.export.hugging_face import whole_model
from supernet.training.recipe import SpecialiseSettings, budgeted_subnets
from supernet.training.specialise import specialise

CONSOLE = Console(width=170)
RECORDINGS = 48  # that low rank is computed on
KINDS = ("untrained winner", "low rank")  # that are not trained


@dataclass(frozen=True)
class Candidate:
    """A subnet of the supernet at `source`, and its training; `folder` has what is done of it."""

    run: str
    kind: str
    source: Path
    subnet: Subnet
    steps: int
    rate: float

    @property
    def folder(self) -> str:
        return "-".join((self.run, *self.kind.split(), f"{self.steps}x{self.rate:g}" if self.steps else "as-it-is"))


def proportional(space: Space, table: AdditiveTable, limit: float) -> Subnet:
    """The largest subnet with nearly the same share of heads and FFN in every layer, at most 0.5 % over the limit.

    Half of the heads and of the FFN take a little more than half of the layers' params: norms and biases stay.
    """
    network, depth, ratios = space.network, space.largest.depth, sorted(space.ffn_ratios[0])
    subnets = []
    for share in np.arange(1, 65) / 64:
        heads = max(1, round(share * network.heads))
        ratio = max([ratio for ratio in ratios if ratio <= share * ratios[-1]] or ratios[:1])
        subnets.append(Subnet(network.width, (heads,) * depth, (ratio,) * depth))
    return max((subnet for subnet in subnets if table.of(subnet) <= 1.005 * limit), key=table.of)


def candidates(run: Path, args: Namespace) -> list[Candidate]:
    """All that are compared for the budget of a run; of equal subnets the first alone is trained."""
    report, model = read_report(run), load_supernet(args.converted)
    assert report.best is not None
    cost, winner = params(model), report.best.subnet
    (near,) = budgeted_subnets(model.space, report.budgets, {"params": cost})
    named = {"winner": winner}
    if report.uniform is not None:
        named["best uniform"] = report.uniform.subnet
    named["proportional"] = proportional(model.space, cost.table, near.budget.of_largest(cost.of(winner)).limit)
    for i, subnet in enumerate(near.subnets.sample(np.random.default_rng(0), args.draws)):
        named[f"random {i + 1}"] = subnet
    of = partial(Candidate, run.name)
    first = {subnet: kind for kind, subnet in reversed(named.items())}
    trained = [of(kind, args.converted, named[kind], args.steps, args.rate[0]) for kind in reversed(first.values())]
    long = [of("winner", args.converted, winner, args.long, rate) for rate in args.rate if args.long]
    other = [of("magnitude", args.magnitude, winner, args.steps, args.rate[0])] if args.magnitude else []
    return [*long, *trained, *other, *(of(kind, args.converted, winner, 0, 0.0) for kind in KINDS)]


def done(candidate: Candidate, args: Namespace) -> None:
    """Trains and evaluates a candidate, in a process of its own, but for what is done already."""
    torch.set_num_threads(args.threads)
    supernet, out = candidate.source, args.out / candidate.folder
    if candidate.steps:
        settings = SpecialiseSettings(
            audio=args.audio,
            teacher=args.converted,
            steps=candidate.steps,
            learning_rate=candidate.rate,
            batch_seconds=args.batch_seconds,
            kl=args.kl,
            device=args.device,
        )
        if not (out / "specialised.json").exists():
            specialise(candidate.source, [candidate.subnet], out, settings)
        supernet = out / "supernet"
    if candidate.kind == "low rank":
        recogniser = _of_low_rank(candidate, args)
        out.mkdir(parents=True, exist_ok=True)
        for test in missing(candidate, args):
            write_json(out / f"{test.stem}.json", recognition(recogniser, test))
        return
    for test in missing(candidate, args):
        kept_recognition(out / f"{test.stem}.json", supernet, candidate.subnet, test, "test", args.device)


def missing(candidate: Candidate, args: Namespace) -> list[Path]:
    """The test sets without a result of this candidate."""
    return [test for test in args.test if not (args.out / candidate.folder / f"{test.stem}.json").exists()]


def _of_low_rank(candidate: Candidate, args: Namespace) -> Recogniser:
    model = load_supernet(candidate.source)
    train = [u for u in read_manifest(args.audio) if u.split == "train"]
    chosen = [train[i * len(train) // RECORDINGS] for i in range(min(RECORDINGS, len(train)))]
    waves = [model.heard(load_audio(utterance.audio, max_seconds=10.0)) for utterance in chosen]
    whole = whole_model(model, model.space.largest)
    low_rank(whole.model.encoder.net, waves, macs_a_frame(model.extract(candidate.subnet)))
    return Recogniser(whole, TextDecoder.of(model), args.device, "low rank")


def results(folder: Path, tests: Sequence[Path]) -> list[JsonObject]:
    return [json.loads(read_text(folder / f"{test.stem}.json")) for test in tests]


def nats_after(candidate: Candidate, out: Path) -> float:
    """The decoder's divergence on dev after training."""
    return float(json.loads(read_text(out / candidate.folder / "specialised.json"))["after"])


def shown(run: Path, own: Sequence[Candidate], originals: Sequence[JsonObject], args: Namespace) -> Table:
    """The figures of all candidates of a run; `winner - this` is of equal training."""
    table = Table(title=f"{run.name}: {', '.join(map(str, read_report(run).budgets))}", title_justify="left")
    for column in ("subnet", "heads; FFN ratios", "training", "dev kl", "test", "WER", "CER", "CER over the original"):
        table.add_column(column)
    for column in ("CE", "winner - this: CE", "CER"):
        table.add_column(column)
    long = [each for each in own if args.steps < each.steps == args.long]
    best = min(long, key=lambda each: nats_after(each, args.out), default=None)
    for each in own:
        if each in long and each != best:
            continue
        rival = next(e for e in own if "winner" in e.kind and e.steps == min(each.steps, args.steps))
        sizes = f"{' '.join(map(str, each.subnet.heads))}; {' '.join(f'{r:g}' for r in each.subnet.ffn_ratios)}"
        taught = f"{each.steps} x {each.rate:g}" if each.steps else "none"
        apart = f"{nats_after(each, args.out):.3f}" if each.steps else ""
        found, theirs = results(args.out / each.folder, args.test), results(args.out / rival.folder, args.test)
        for test, result, whole, other in zip(args.test, found, originals, theirs, strict=True):
            rates, over = result["results"], compared(result, whole)["results"]
            less = compared(other, result)["results"] if rival != each else {}
            cells = (rates["wer"], rates["cer"], over["cer"], rates["ce"], less.get("ce"), less.get("cer"))
            texts = [interval_text(cell) if cell else "" for cell in cells]
            table.add_row(each.kind, sizes, taught, apart, test.stem, *texts)
            sizes = taught = apart = ""
        table.add_section()
    return table


def timed(args: Namespace, winners: dict[str, Subnet]) -> Table:
    """Milliseconds of the original and of the winners, in turns, with the 95 % half-width, and how much faster."""
    model = load_supernet(args.converted)
    named, shown = {"original": model.space.largest, **winners}, Table(title="latency", title_justify="left")
    for column in ("target", *named):
        shown.add_column(column)
    for target in args.target:
        took = measure(model, list(named.values()), Target.parse(target), shipped=True)
        cells = [
            f"{ms:.1f} ms (± {100 * error:.1f} %), {took.ms[0] / ms:.2f}x"
            for ms, error in zip(took.ms, took.error, strict=True)
        ]
        shown.add_row(target, *cells)
    return shown


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("converted", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--run", type=Path, action="append", required=True)
    parser.add_argument("--test", type=Path, action="append", required=True)
    parser.add_argument("--magnitude", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--long", type=int, default=0)
    parser.add_argument("--rate", type=float, action="append", required=True)
    parser.add_argument("--batch-seconds", type=float, default=30.0)
    parser.add_argument("--kl", type=float, default=0.5)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    CONSOLE.print(header())
    whole = Candidate("original", "whole", args.converted, load_supernet(args.converted).space.largest, 0, 0.0)
    named = {run: candidates(run, args) for run in args.run}
    everything = dict.fromkeys([*(each for own in named.values() for each in own), whole])  # long ones first
    order = sorted((each for each in everything if missing(each, args)), key=lambda each: -each.steps)
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(done, each, args) for each in order]):
            future.result()
    originals = results(args.out / whole.folder, args.test)
    for test, result in zip(args.test, originals, strict=True):
        rates = ", ".join(f"{name} {interval_text(result['results'][name])}" for name in ("wer", "cer", "ce"))
        CONSOLE.print(f"original on {test.stem}, {result['data']['recordings']} recordings: {rates}")
    for run, own in named.items():
        CONSOLE.print(shown(run, own, originals, args))
    if args.target:
        CONSOLE.print(timed(args, {run.name: own[0].subnet for run, own in named.items()}))


if __name__ == "__main__":
    main()
