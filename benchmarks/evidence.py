"""Every table of the documents about `hubert-tiny`, made in one go from the shipped weights: `make evidence`.

    make evidence AUDIO=speech/manifest.jsonl TEACHER=whisper-base-encoder/
    python -m benchmarks.evidence --audio speech/manifest.jsonl --teacher whisper-base-encoder/ --out runs/evidence

Groups of commands run beside each other, one on each core; those that measure time run alone, after them. The output of
each command is kept in OUT with the weights that it is about, so that an interrupted run continues; `WEIGHTLESS` ones,
of made-up scores, are about the space alone. Its tables go between `<!-- evidence: NAME -->` and `<!-- /evidence -->`
in the document that has these markers, with the command and the commit. `--training`: the folder that `nas train`
wrote, for its log. `--only` names groups; `--write` only writes what OUT holds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks._common import command_line, header
from search_spaces.files import write_text
from supernet import load_supernet

ROOT = Path(__file__).parents[1]
MARK = r"^<!-- evidence: (\S+?)(?:; weights (\w+))? -->$"
SPEECH, TEACHER = "--audio speech/manifest.jsonl", "--teacher whisper-base-encoder"
TARGETS = tuple(f"{name},threads={n},seconds=2" for name in ("torch", "onnxruntime") for n in (1, 2))

COMMANDS: dict[str, tuple[str, ...]] = {
    "supernet": (
        f"supernet_quality {SPEECH} {TEACHER} --targets targets --supernet untrained= --supernet shipped=hubert-tiny",
    ),
    "tasks": (f"tasks table {SPEECH} {TEACHER} --out tasks", f"tasks diarization {SPEECH} {TEACHER} --out tasks"),
    "ranks": (f"within_budget ranks {SPEECH} --heads 2 --out ranks",),
    "gain": (f"within_budget gain {SPEECH} --out gain",),
    "optimum": (
        "score_table --space enumerable.toml --out enumerable.npz",
        "search_quality enumerable --table enumerable.npz --seeds 10 --out enumerable.jsonl",
    ),
    "searchers": (
        "search_quality full --seeds 10 --out full.jsonl",
        "search_quality odd --seeds 5 --out odd.jsonl",
        "search_quality chains --seeds 4",
    ),
    "speed": (
        f"speed {SPEECH} --only table successive processes sharing",
        f"speed {SPEECH} --only small base evolution encoder memory count train",
    ),
    "latency": (
        *(f"latency measure --target {target} --out raw" for target in TARGETS[::2]),
        *(f"latency measure --target {target} --out raw --no-blocks" for target in TARGETS[1::2]),
        f"latency fit {' '.join(f'raw/hubert-tiny_{target}.json' for target in TARGETS)}",
        *(f"latency searches --target {target} --raw raw/hubert-tiny_{target}.json" for target in TARGETS[::2]),
        "latency forms",
    ),
    "exports": (f"exports --folder exports {SPEECH} {TEACHER} --write", "exports --folder exports"),
}
"""By group: modules of this folder with their options, run in a folder that has `speech` and the teacher."""

TIMED = ("speed", "latency", "exports")
WEIGHTLESS = ("searchers",)

PIECES: dict[str, tuple[str, int, slice]] = {
    "hubert-tiny-quality": ("supernet", 0, slice(-1, None)),
    "tasks-superb": ("tasks", 0, slice(-1, None)),
    "tasks-diarization": ("tasks", 1, slice(-1, None)),
    "tasks-ranks": ("ranks", 0, slice(None)),
    "tasks-gain": ("gain", 0, slice(None)),
    "searchers-regret": ("optimum", 1, slice(0, 1)),
    "searchers-found": ("optimum", 1, slice(1, 2)),
    "searchers-front": ("optimum", 1, slice(2, 3)),
    "searchers-whole-tiny": ("searchers", 0, slice(0, 1)),
    "searchers-whole-small": ("searchers", 0, slice(1, 2)),
    "searchers-odd-pairs": ("searchers", 1, slice(0, 1)),
    "searchers-odd-three-way": ("searchers", 1, slice(1, 2)),
    "searchers-odd-threshold": ("searchers", 1, slice(2, 3)),
    "searchers-odd-noise": ("searchers", 1, slice(3, 4)),
    "searchers-chains": ("searchers", 2, slice(None)),
    "speed-tiny": ("speed", 0, slice(None)),
    "speed-lighthubert": ("speed", 1, slice(None)),
    "latency-prediction": ("latency", 4, slice(None)),
    "latency-searches-torch": ("latency", 5, slice(None)),
    "latency-searches-onnxruntime": ("latency", 6, slice(None)),
    "latency-forms": ("latency", 7, slice(None)),
    "exports-forms": ("exports", 1, slice(None)),
}
"""What stands between each pair of markers: which tables of the output of which command of a group."""


def collect(name: str, weights: str, out: Path) -> None:
    """Runs the commands of a group that have no output of these weights yet; raises `SystemExit` if one fails."""
    threads = {} if name in TIMED else {"OMP_NUM_THREADS": "1"}
    weights = about(name, weights)
    for i, command in enumerate(COMMANDS[name]):
        file = out / f"{name}-{i}.json"
        if _kept(file, weights, command) is not None:
            continue
        print(f"{name}: python -m benchmarks.{command}", flush=True)
        module, *options = shlex.split(command)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}", *options],
            cwd=out, env={**os.environ, "PYTHONPATH": str(ROOT), **threads},
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{name}: benchmarks.{command} ended with {done.returncode}:\n{done.stdout[-2000:]}")
        record = {"weights": weights, "command": command, "text": done.stdout, "seconds": time.monotonic() - began}
        write_text(file, json.dumps(record))


def about(group: str, weights: str) -> str:
    """The weights that a group's figures depend on: "" if on none."""
    return "" if group in WEIGHTLESS else weights


def _kept(file: Path, weights: str, command: str) -> str | None:
    if not file.exists():
        return None
    record = json.loads(file.read_text(encoding="utf-8"))
    return record["text"] if (record["weights"], record["command"]) == (weights, command) else None


def block(piece: str, weights: str, out: Path) -> str | None:
    """The Markdown of a piece; None if its output is missing."""
    group, i, chosen = PIECES[piece]
    text = _kept(out / f"{group}-{i}.json", about(group, weights), COMMANDS[group][i])
    if text is None:
        return None
    found = re.findall(r"commit (\S+); (python .*); \S+$", text, flags=re.MULTILINE)
    source = [f"`{found[-1][1]}`, commit {found[-1][0]}."] if found else []
    return "\n\n".join([*tables(text)[chosen], *source])


def tables(text: str) -> list[str]:
    """The Markdown tables in a benchmark's output, each after the line that stands before it."""
    lines = [re.sub(r" {2,}", " ", line).strip() for line in text.splitlines()]
    result: list[list[str]] = []
    for i, line in enumerate(lines):
        if line.startswith("|") and (i == 0 or not lines[i - 1].startswith("|")):
            title = next((before for before in reversed(lines[:i]) if before), "|")
            untitled = title.startswith(("|", "{", "[", "commit "))
            result.append([] if untitled else [f"{title.rstrip(':')}:", ""])
        if line.startswith("|"):
            result[-1].append(line)
    return ["\n".join(each) for each in result]


def training_table(folder: Path) -> str:
    """Dev distances in the logs of its stages, a line for about every tenth of a stage."""
    lines = ["| stage | steps | smallest | middle | largest |", "|---|---|---|---|---|"]
    for file in sorted(folder.glob("stage?/log.jsonl")):
        stage = file.parent.name
        records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if '"dev"' in line]
        for record in records[:: max(1, len(records) // 10)][:-1] + records[-1:]:
            means = {name: sum(values) / len(values) for name, values in record["dev"].items()}
            cells = " | ".join(
                f"{means[name]:.3f}" if name in means else "" for name in ("smallest", "middle", "largest")
            )
            lines.append(f"| {stage[-1]} | {record['step']:,} | {cells} |")
    return "\n".join(lines)


def markers() -> Iterator[tuple[Path, str, str]]:
    """Every marked block of the documents: its file, its name, and the weights that it is about ("" if none)."""
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
        for name, weights in re.findall(MARK, page.read_text("utf-8"), re.MULTILINE):
            yield page, name, weights


def insert(name: str, weights: str, text: str) -> None:
    """Puts a piece between its markers, with the weights that it is about, if any."""
    pages = [page for page, marked, _ in markers() if marked == name]
    if len(pages) != 1:
        raise SystemExit(
            f"{name} needs one place in the documents, '<!-- evidence: {name} -->'; there are {len(pages)}"
        )
    old = pages[0].read_text(encoding="utf-8")
    pattern = rf"<!-- evidence: {name}(; weights \w+)? -->.*?<!-- /evidence -->"
    named = f"; weights {weights}" if weights else ""
    new = f"<!-- evidence: {name}{named} -->\n\n{text}\n\n<!-- /evidence -->"
    write_text(pages[0], re.sub(pattern, lambda _: new, old, count=1, flags=re.DOTALL))


def linked(out: Path, audio: Path, teacher: Path) -> None:
    """Names in OUT for what the commands read: figures must not depend on where it lies."""
    out.mkdir(parents=True, exist_ok=True)
    table = ROOT / "benchmarks" / "enumerable.toml"
    for name, place in (("speech", audio.parent), ("whisper-base-encoder", teacher), ("enumerable.toml", table)):
        link = out / name
        if not link.is_symlink() or link.resolve() != place.resolve():
            link.unlink(missing_ok=True)
            link.symlink_to(place.resolve())


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--audio", type=Path, help="Manifest of speech, named manifest.jsonl.")
    parser.add_argument("--teacher", type=Path, help="Folder of Whisper base's encoder.")
    parser.add_argument("--training", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--write", action="store_true", help="Run nothing.")
    args: argparse.Namespace = parser.parse_args()
    weights = load_supernet("hubert-tiny").fingerprint()
    if not args.write:
        if args.audio is None or args.teacher is None or args.audio.name != "manifest.jsonl":
            raise SystemExit("--audio (a manifest.jsonl) and --teacher are needed to run anything")
        linked(args.out, args.audio, args.teacher)
    if not args.write:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(partial(collect, weights=weights, out=args.out.absolute()), set(args.only) - set(TIMED)))
        for group in sorted(set(args.only) & set(TIMED)):
            collect(group, weights, args.out.absolute())
    for group in args.only:
        for piece in (name for name, (of, _, _) in PIECES.items() if of == group):
            text = block(piece, weights, args.out)
            if text is not None:
                insert(piece, about(group, weights), text)
            print(f"{piece}: {'written' if text is not None else 'not measured with these weights'}", flush=True)
    if args.training is not None:
        insert("hubert-tiny-progress", weights, training_table(args.training))
    print(header())


if __name__ == "__main__":
    main()
