"""Every table of the documents about `hubert-tiny`, made in one go from the shipped weights: `make evidence`.

    make evidence AUDIO=speech/manifest.jsonl TEACHER=whisper-base-encoder/
    python -m benchmarks.evidence --audio speech/manifest.jsonl --teacher whisper-base-encoder/ --out runs/evidence

Each piece is one or more commands, whose output is kept in OUT with the weights that it is about, so that an
interrupted run continues. Their tables go between `<!-- evidence: NAME -->` and `<!-- /evidence -->` in the document
that has these markers, with the command and the commit. `--training`: the folder that `nas train` wrote, for its log.
`--only` names pieces; `--write` only writes what OUT holds.
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
from pathlib import Path

from benchmarks._common import command_line, header
from search_spaces.files import write_text
from supernet import load_supernet

ROOT = Path(__file__).parents[1]
SPEECH, TEACHER = "--audio speech/manifest.jsonl", "--teacher whisper-base-encoder"
TARGETS = ("torch", "torch,threads=2", "onnxruntime", "onnxruntime,threads=2")

COMMANDS: dict[str, tuple[str, ...]] = {
    "supernet": (
        f"supernet_quality {SPEECH} {TEACHER} --targets targets --supernet untrained= --supernet shipped=hubert-tiny",
    ),
    "training": (),
    "tasks": (f"tasks table {SPEECH} {TEACHER} --out tasks", f"tasks diarization {SPEECH} {TEACHER} --out tasks"),
    "ranks": (f"within_budget ranks {SPEECH} --out within",),
    "gain": (f"within_budget gain {SPEECH} --out within",),
    "optimum": (
        "score_table --space enumerable.toml --out enumerable.npz",
        "search_quality enumerable --table enumerable.npz --seeds 10 --out enumerable.jsonl",
    ),
    "searchers": (
        "search_quality full --seeds 10 --out full.jsonl",
        "search_quality odd --seeds 10 --out odd.jsonl",
        "search_quality chains --seeds 4",
    ),
    "speed": (f"speed {SPEECH} --only table sharing successive processes",),
    "latency": (
        *(f"latency measure --target {target} --out raw" for target in TARGETS),
        f"latency fit {' '.join(f'raw/hubert-tiny_{target}.json' for target in TARGETS)}",
        "latency searches --target torch --raw raw/hubert-tiny_torch.json",
        "latency searches --target onnxruntime --raw raw/hubert-tiny_onnxruntime.json",
        "latency forms",
    ),
    "exports": (f"exports --folder exports {SPEECH} {TEACHER} --write", "exports --folder exports"),
    "actors": ("ray_overhead pairs",),
}
"""Of each piece: modules of this folder with their options, from a folder that has `speech` and the teacher."""


def collect(name: str, weights: str, out: Path) -> None:
    """Runs the commands of a piece that have no output of these weights yet; raises `SystemExit` if one fails."""
    for i, command in enumerate(COMMANDS[name]):
        file = out / f"{name}-{i}.json"
        if _kept(file, weights, command) is not None:
            continue
        print(f"{name}: python -m benchmarks.{command}", flush=True)
        module, *options = shlex.split(command)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}", *options],
            cwd=out, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{name}: benchmarks.{command} ended with {done.returncode}:\n{done.stdout[-2000:]}")
        record = {"weights": weights, "command": command, "text": done.stdout, "seconds": time.monotonic() - began}
        write_text(file, json.dumps(record))


def _kept(file: Path, weights: str, command: str) -> str | None:
    if not file.exists():
        return None
    record = json.loads(file.read_text(encoding="utf-8"))
    return record["text"] if (record["weights"], record["command"]) == (weights, command) else None


def block(name: str, weights: str, out: Path, training: Path | None) -> str | None:
    """The Markdown of a piece, or None if something of it is missing."""
    if name == "training":
        return None if training is None else training_table(training)
    texts = [_kept(out / f"{name}-{i}.json", weights, command) for i, command in enumerate(COMMANDS[name])]
    if any(text is None for text in texts):
        return None
    parts = [markdown(text) for text in texts if text is not None]
    return "\n\n".join(part for part in parts if "|" in part)


def markdown(text: str) -> str:
    """The tables of a benchmark's output, each with the line before it, then its last line: commit and command."""
    lines = [re.sub(r" {2,}", " ", line).strip() for line in text.splitlines()]
    kept: list[str] = []
    for i, line in enumerate(lines):
        if line.startswith("|"):
            if not kept or not kept[-1].startswith("|"):
                title = next((before for before in reversed(lines[:i]) if before), "")
                kept += ["", f"{title}:" if title and not title.startswith("|") else "", ""]
            kept.append(line)
    found = re.findall(r"commit (\S+); (python .*); \S+$", text, flags=re.MULTILINE)
    source = f"`{found[-1][1]}`, commit {found[-1][0]}." if found else ""
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*kept, "", source])).strip()


def training_table(folder: Path) -> str:
    """Dev distances in the logs of both stages, a line for about every tenth of a stage."""
    lines = ["| stage | steps | smallest | middle | largest |", "|---|---|---|---|---|"]
    for stage in ("stage1", "stage2"):
        file = folder / stage / "log.jsonl"
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
        for name, weights in re.findall(r"<!-- evidence: (\S+?)(?:; weights (\w+))? -->", page.read_text("utf-8")):
            yield page, name, weights


def insert(name: str, weights: str, text: str) -> None:
    """Puts a piece between its markers."""
    pages = [page for page, marked, _ in markers() if marked == name]
    if len(pages) != 1:
        raise SystemExit(
            f"{name} needs one place in the documents, '<!-- evidence: {name} -->'; there are {len(pages)}"
        )
    old = pages[0].read_text(encoding="utf-8")
    pattern = rf"<!-- evidence: {name}(; weights \w+)? -->.*?<!-- /evidence -->"
    new = f"<!-- evidence: {name}; weights {weights} -->\n\n{text}\n\n<!-- /evidence -->"
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
    for name in args.only:
        if not args.write:
            collect(name, weights, args.out.absolute())
        text = block(name, weights, args.out, args.training)
        if text is not None:
            insert(name, weights, text)
        print(f"{name}: {'written' if text is not None else 'not at hand'}", flush=True)
    print(header())


if __name__ == "__main__":
    main()
