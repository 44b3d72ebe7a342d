"""Downstream evaluation of frozen subnets.

    python -m benchmarks.tasks table --audio speech/manifest.jsonl --teacher TEACHER --out runs/tasks
    python -m benchmarks.tasks diarization --audio speech/manifest.jsonl --teacher TEACHER --out runs/tasks

`table`: log-mel, the teacher, the largest and the middle subnet, and at 71 % and 29 % of its parameters the search's
winner (`exact`, teacher distance) and the best uniform subnet of the same search; `--also` adds slices of other
supernets. `diarization`: the same upstreams on mixtures of two speakers. Both store their results in OUT and continue
from there. How much search gains, and which score ranks subnets as the tasks do: `benchmarks.within_budget`.

The tasks are small ones made from the manifest, whose ids start with "queen-" or "asterisk-":
speaker       characters of the acted dialogue
verification  the same recordings; speakers of test do not occur in train
language      the prompts recorded in five languages (one voice each, two of them the same: partly a speaker task)
keyword       texts spoken at least ten times
asr           the texts of the speaker task; a linear CTC head
diarization   two characters; the second starts while the first speaks or up to half a second later; an LSTM of 128
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import soundfile
import torch

import nas
from benchmarks._common import command_line, header
from evaluators import costs, scores
from evaluators.tasks import evaluate
from evaluators.tasks.features import Frozen
from evaluators.tasks.settings import FitSettings
from search_spaces import Subnet
from supernet import load_supernet
from supernet.audio import load_audio
from supernet.teacher import load_teacher

ALPHABET = "abcdefghijklmnopqrstuvwxyz'"
SPLITS = ("train", "dev", "test")
SIZES = {"speaker": (10, 4, 30), "language": (16, 8, 60), "keyword": (5, 2, 3)}
RECIPES = {
    "asr": FitSettings((1e-2, 3e-2, 1e-1), 3, epochs=30, batch=16),
    "diarization": FitSettings((1e-3,), 3, epochs=15, batch=16),
}
OPTIONS = {"asr": {"alphabet": ALPHABET}, "diarization": {"hidden": 128}}
MIXTURES = {"train": 400, "dev": 60, "test": 120}
METRICS = {
    "speaker": "accuracy", "verification": "eer", "language": "accuracy", "keyword": "accuracy", "asr": "cer",
    "diarization": "der",
}  # fmt: skip
SHARES = {"71 %": 0.71, "29 %": 0.29}
ALSO = "search, 29 %"  # the subnet evaluated in other supernets


# -------------------------------------------------------------------- the tasks


def prepare(audio: Path, out: Path, sizes: dict[str, tuple[int, int, int]], longest: float) -> dict[str, Path]:
    """Writes the manifests of the tasks into `out`, with recordings of 0.5 s to `longest` seconds."""
    rows = [json.loads(line) for line in audio.read_text(encoding="utf-8").splitlines()]
    rows = [{**row, "audio": str(audio.absolute().parent / row["audio"])} for row in rows]
    rows = [row for row in rows if 0.5 <= row["seconds"] <= longest]
    rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())
    acted = [row for row in rows if row["source"] == "queen" and plain(row["text"])]
    prompts = [row for row in rows if row["source"] == "asterisk"]
    frequent = Counter(row["speaker"] for row in acted if row["split"] == "train")
    acted_speakers = [row for row in acted if row["speaker"] and frequent[row["speaker"]] >= 40]
    sets = {
        "speaker": limited(acted_speakers, "speaker", sizes["speaker"]),
        "language": limited(prompts, "language", sizes["language"]),
        "keyword": keywords(acted, sizes["keyword"]),
    }
    sets["asr"] = sets["speaker"]
    names = sorted({row["speaker"] for row in sets["speaker"]})
    part = {name: SPLITS[(0, 1, 2, 0, 2)[i % 5]] for i, name in enumerate(names)}
    sets["verification"] = [{**row, "split": part[row["speaker"]]} for row in sets["speaker"]]
    out.mkdir(parents=True, exist_ok=True)
    for name, chosen in sets.items():
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return {name: out / f"{name}.jsonl" for name in sets}


def mixtures(audio: Path, out: Path) -> dict[str, Path]:
    """Writes mixtures of two characters, made from acted dialogue of 1 to 4 s, and their manifest."""
    rng, lines = np.random.default_rng(0), []
    rows = [json.loads(line) for line in audio.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["source"] == "queen" and row["speaker"] and 1 <= row["seconds"] <= 4]
    out.mkdir(parents=True, exist_ok=True)
    for split, count in MIXTURES.items():
        own = [row for row in rows if row["split"] == split]
        for i in range(count):
            first = own[int(rng.integers(len(own)))]
            others = [row for row in own if row["speaker"] != first["speaker"]]
            second = others[int(rng.integers(len(others)))]
            waves = [load_audio(audio.parent / row["audio"]) for row in (first, second)]
            start = int(rng.uniform(0.4 * len(waves[0]), len(waves[0]) + 8_000))
            mixed = np.zeros(max(len(waves[0]), start + len(waves[1])), np.float32)
            for wave, at in zip(waves, (0, start), strict=True):
                mixed[at : at + len(wave)] += 0.1 * wave / np.sqrt(np.mean(wave**2) + 1e-8)
            name = f"{split}-{i}"
            soundfile.write(out / f"{name}.flac", mixed.clip(-1, 1), 16_000)
            turns = [[0.0, len(waves[0]) / 16_000, first["speaker"]]]
            turns.append([start / 16_000, (start + len(waves[1])) / 16_000, second["speaker"]])
            record = {
                "id": name,
                "audio": f"{name}.flac",
                "seconds": len(mixed) / 16_000,
                "split": split,
                "turns": turns,
            }
            lines.append(json.dumps(record) + "\n")
    (out / "diarization.jsonl").write_text("".join(lines), encoding="utf-8")
    return {"diarization": out / "diarization.jsonl"}


def plain(text: str | None) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", (text or "").casefold()).split())


def limited(rows: list[dict[str, Any]], label: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """At most `sizes` recordings of each class in train, dev and test."""
    limits, seen, kept = dict(zip(SPLITS, sizes, strict=True)), Counter(), []
    for row in rows:
        key = (row[label], row["split"])
        if seen[key] < limits[row["split"]]:
            seen[key] += 1
            kept.append(row)
    return kept


def keywords(rows: list[dict[str, Any]], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Texts spoken often, in new splits: the manifest keeps all recordings of a text in one split."""
    by_text = defaultdict(list)
    for row in rows:
        by_text[plain(row["text"])].append(row)
    split = [name for name, size in zip(SPLITS, sizes, strict=True) for _ in range(size)]
    return [
        {**row, "keyword": text, "split": name}
        for text, spoken in sorted(by_text.items())
        if len(spoken) >= len(split)
        for name, row in zip(split, spoken, strict=False)
    ]


# -------------------------------------------------------------------- upstreams


class LogMel:
    """The floor: 80 log-mel channels of Whisper's front end, at 100 frames per second."""

    key, layers, dim = "log-mel", 1, 80
    about: ClassVar = {"model": "log-mel"}

    def __init__(self, teacher: Path) -> None:
        from transformers import WhisperFeatureExtractor

        self.extractor = WhisperFeatureExtractor.from_pretrained(teacher)

    def __call__(self, samples: Any) -> torch.Tensor:
        mel = self.extractor(samples, sampling_rate=16_000, padding="longest", return_tensors="pt").input_features
        return mel.transpose(1, 2)


class WholeTeacher:
    """The ceiling: all hidden states of the teacher."""

    def __init__(self, folder: Path) -> None:
        self.net = load_teacher(folder, tuple(range(7)))
        self.key, self.layers, self.dim = f"teacher-{self.net.fingerprint[:12]}", 7, self.net.dim
        self.about = {"model": folder.name, "params": sum(value.numel() for value in self.net.parameters())}

    def __call__(self, samples: Any) -> torch.Tensor:
        return self.net([samples], -(-len(samples) // 320))[0]


class SharedFront:
    """Subnets of one supernet as upstreams; the features of each front end are computed once for each recording."""

    def __init__(self, model: Any) -> None:
        self.model, self.known = model, {}

    def of(self, subnet: Subnet) -> Any:
        upstream = Frozen(self.model.extract(subnet), name="hubert-tiny")

        def once(wav: torch.Tensor) -> torch.Tensor:
            key = hash(wav.numpy().tobytes()), subnet.front_end
            if key not in self.known:
                self.known[key] = self.model.features(wav, subnet.front_end).half()
            return self.known[key].float()

        upstream.net.front_end.forward = once
        return upstream


def chosen_subnets(model: Any, evals: int, out: Path) -> dict[str, Subnet]:
    file = out / "subnets.json"
    if file.exists():
        return {name: Subnet.from_dict(fields) for name, fields in json.loads(file.read_text()).items()}
    space = model.space
    subnets = {"largest": space.largest, "middle": space.middle}
    for name, share in SHARES.items():
        budget = f"params<={share:.0%}"
        result = nas.search(
            space, scores.distillation(model), costs={"params": costs.params(space)}, budgets=(budget,), evals=evals
        )
        subnets |= {f"search, {name}": result.best.subnet, f"best uniform, {name}": result.uniform.subnet}
    file.write_text(json.dumps({key: subnet.to_dict() for key, subnet in subnets.items()}))
    return subnets


# -------------------------------------------------------------------- the table


def table(args: argparse.Namespace) -> None:
    judge(args, prepare(args.audio, args.out / "tasks", SIZES, 4.0))


def diarization(args: argparse.Namespace) -> None:
    judge(args, mixtures(args.audio, args.out / "mixtures"))


def judge(args: argparse.Namespace, manifests: dict[str, Path]) -> None:
    """Every upstream on every task."""
    model = load_supernet(args.supernet)
    shared = SharedFront(model)
    subnets = chosen_subnets(model, args.evals, args.out)
    makers: dict[str, Any] = {name: lambda subnet=subnet: shared.of(subnet) for name, subnet in subnets.items()}
    for spec in args.also:
        name, _, folder = spec.partition("=")
        other = SharedFront(load_supernet(folder))
        makers[name] = lambda other=other: other.of(subnets[ALSO])
    makers |= {"log-mel": lambda: LogMel(args.teacher), "teacher": lambda: WholeTeacher(args.teacher)}
    makers = {name: make for name, make in makers.items() if not args.only or name in args.only}
    rows, file = [], args.out / "table.jsonl"
    done = {(r["name"], r["task"]): r for r in map(json.loads, file.read_text().splitlines())} if file.exists() else {}
    for name, make in makers.items():
        upstream = None
        for task in manifests:
            if (name, task) not in done:
                upstream = upstream or make()
                options = OPTIONS.get(task, {})
                recipe = RECIPES.get(task, FitSettings())
                result = evaluate(upstream, task, manifests[task], recipe, cache=args.out / "states", **options)
                done[name, task] = {"name": name, **result}
                with file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(done[name, task]) + "\n")
            rows.append(done[name, task])
        shutil.rmtree(args.out / "states", ignore_errors=True)
        show(rows, [task for task in METRICS if task in manifests])


def show(rows: Sequence[dict[str, Any]], tasks: Sequence[str]) -> None:
    print(f"| upstream | params | {' | '.join(f'{task} {METRICS[task]}' for task in tasks)} |")
    print("|---|---|" + "---|" * len(tasks))
    by_name = defaultdict(dict)
    for row in rows:
        by_name[row["name"]][row["task"]] = row
    for name, results in by_name.items():
        cells = []
        for task in tasks:
            value = results[task]["results"][METRICS[task]]
            cells.append(f"{value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})")
        params = results[tasks[0]]["upstream"].get("params")
        print(f"| {name} | {f'{params:,}' if params else ''} | {' | '.join(cells)} |")
    for task in tasks:
        data = next(row for row in rows if row["task"] == task)["data"]
        print(
            f"{task}: {data['train']} train, {data['dev']} dev, {data['test']} test, {data.get('classes', '')} classes"
        )
    print(f"{sum(row['seconds'] for row in rows) / 60:.1f} minutes of evaluation\n{header()}", flush=True)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("part", choices=("table", "diarization"))
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, help="Folder of Whisper, for `table` and `diarization`.")
    parser.add_argument("--supernet", default="hubert-tiny")
    parser.add_argument("--also", action="append", default=[], help="NAME=SUPERNET: add its 29 % slice.")
    parser.add_argument("--only", nargs="+", help="Names of the upstreams to evaluate.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--evals", type=int, default=48, help="Evaluations of each search.")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    {"table": table, "diarization": diarization}[args.part](args)


if __name__ == "__main__":
    main()
