"""How much of what real life does to files and processes falls short: damage, kills, swaps, devices, options, text.

    python -m benchmarks.attack                 # about half an hour
    python -m benchmarks.attack --trials 5 --every 8

Damaged files: each file `nas` reads, at random (`tests.faults.fuzz`). Kills: each command that writes, killed before
every `--every`-th file operation and run again (`tests.faults.test_kill`). Swaps: another file lies where a run's was.
Devices and options: what can hang, or cannot take effect. Short is a traceback, more than 60 s, a wrong exit status, or
a result other than that of an undisturbed run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks._common import command_line, header
from tests.faults import fuzz, test_kill

LIMIT = 60
Outcome = tuple[str, bool]


def nas(folder: Path, *words: str) -> tuple[int | None, str]:
    """Exit status (None: took over a minute) and messages of a `nas` command of its own process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "cli", *words]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return None, "took over a minute"
    return done.returncode, done.stderr


def expected(folder: Path, words: str, *statuses: int) -> Outcome:
    """Whether the command ends with one of these statuses, and without a traceback."""
    status, message = nas(folder, *words.split())
    return f"{words}: {status}: {message[-300:].strip()}", status in statuses and "Traceback" not in message


def damage(folder: Path, trials: int) -> Iterator[Outcome]:
    for name in fuzz.CASES:
        for seed in range(trials):
            fault = fuzz.trial(name, folder, seed)
            yield f"{name}, seed {seed}: {fault}", fault is None


def kills(folder: Path, every: int) -> Iterator[Outcome]:
    test_kill.make_inputs(folder)
    for name in test_kill.COMMANDS:
        undisturbed = folder.with_name(f"{name}-whole")
        shutil.copytree(folder, undisturbed)
        results, files, operations = test_kill.whole(undisturbed, name)
        for at in range(1, operations + 1, every):
            copy = folder.with_name(f"{name}-{at}")
            shutil.copytree(folder, copy)
            try:
                yield f"{name}, operation {at}", test_kill.killed(copy, name, at) == (results, files)
            except (AssertionError, OSError, ValueError) as error:
                yield f"{name}, operation {at}: {error!s:.200}", False
            shutil.rmtree(copy)


def swaps(folder: Path) -> Iterator[Outcome]:
    """A run's supernet, speech or space is replaced by another, at the same path."""
    from supernet import load_supernet, save_supernet

    model = load_supernet(folder / "net")
    save_supernet(model, folder / "other")
    assert model.calibration is not None
    search = "search --supernet net --audio speech/manifest.jsonl --evals 2 --out swapped"
    yield expected(folder, search, 0)
    manifest = folder / "speech" / "manifest.jsonl"
    before = manifest.read_text()
    manifest.write_text("\n".join(before.split("\n")[:-1]))
    yield expected(folder, "search --resume swapped --evals 4", 4)
    yield expected(folder, "export swapped --format onnx --dtype int8 --out x", 4)
    manifest.write_text(before)
    for value in model.parameters():
        value.data.mul_(1.01)
    save_supernet(model, folder / "net")
    yield expected(folder, "export swapped --out x", 4)
    yield expected(folder, "export swapped/best.json --supernet net --out x", 4)
    yield expected(folder, "search --resume swapped --evals 4", 4)
    yield expected(folder, "eval --model net --subnet swapped/best.json --task asr --manifest m", 4)
    yield expected(folder, "export swapped --supernet other --format json --out x", 0)


def devices(folder: Path) -> Iterator[Outcome]:
    """What would never end, or is no file: as checkpoint, manifest, recording, settings, output."""
    os.mkfifo(folder / "fifo")
    for place in ("fifo", "/dev/zero", "/dev/null", "speech"):
        yield expected(folder, f"cost --supernet {place}", 2)
        yield expected(folder, f"search --audio {place} --out x", 2)
        yield expected(folder, f"cost --subnet {place}", 2)
        yield expected(folder, f"space {place}", 2)
        yield expected(folder, f"report {place}", 2)
        yield expected(folder, f"latency show {place}", 2)
        yield expected(folder, f"latency fit --csv {place}", 2)
        yield expected(folder, f"search --config {place} --print-config", 2)
    for place in ("/dev/null", "/dev/full", "subnet.json"):
        yield expected(folder, f"search --evals 1 --out {place}", 2)
        yield expected(folder, f"export run --out {place}", 2)
    yield expected(folder, "report run --journal subnet.json", 2)


def options(folder: Path) -> Iterator[Outcome]:
    """Options that cannot take effect, and numbers that cannot be."""
    for words in (
        "search --teacher hf", "search --resume run --out x", "search --actors 2", "search --async",
        "export run --audio speech/manifest.jsonl --out x", "export run --opset 18 --format json --out x",
        "convert hubert-tiny --no-sort --audio speech/manifest.jsonl --out x", "search --evals " + "9" * 30,
        "search --evals -1", "search --seconds nan", "search --budget params<=nan", "search --budget params<=",
        "search --macs-seconds 1", "search --searcher x", "eval --model run --task asr --manifest m",
        "cost --supernet exported", "cost --supernet run", "sweep --resume run", "status nowhere",
    ):  # fmt: skip
        yield expected(folder, words, 2)
    yield expected(folder, "search --budget params<=1 --out x", 3)


SECTIONS: dict[str, Callable[[Path, int, int], Iterator[Outcome]]] = {
    "swapped files": lambda folder, trials, every: swaps(folder),
    "options": lambda folder, trials, every: options(folder),
    "devices": lambda folder, trials, every: devices(folder),
    "damaged files": lambda folder, trials, every: damage(folder, trials),
    "kill points": lambda folder, trials, every: kills(folder.with_name("kills"), every),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line(__doc__)
    parser.add_argument("--trials", type=int, default=20, help="Damaged files of each kind.")
    parser.add_argument("--every", type=int, default=3, help="Kill before every so many operations.")
    parser.add_argument("--only", nargs="*", default=list(SECTIONS))
    args = parser.parse_args(arguments)
    rows, total = [], 0
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        fuzz.build(whole)
        for name in args.only:
            folder = Path(scratch) / name.replace(" ", "-") / "files"
            shutil.copytree(whole, folder)
            (folder.parent / "kills").mkdir()
            tried = short = 0
            for told, held in SECTIONS[name](folder, args.trials, args.every):
                tried, short = tried + 1, short + (not held)
                if not held:
                    print(f"{name}: {told}".replace(scratch, ""), flush=True)
            rows.append(f"| {name} | {tried} | {short} |")
            total += short
    print("| section | tried | fell short |\n|---|---|---|", *rows, sep="\n")
    print(header())
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
