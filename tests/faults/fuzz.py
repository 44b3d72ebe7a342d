"""Damages every file that `nas` reads, and runs the commands that read it: each must work, or refuse in one line.

    python -m tests.faults.fuzz --minutes 10 --seed 0        # make fuzz

A case is a folder with whole files, the file to damage, and the commands that read it. What falls short: an exception
that is no `NasError` (a traceback), an error of several lines, escape sequences of the file's text, or more than 60 s.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import cli

__all__ = ["CASES", "Case", "build", "run", "trial"]

SECONDS = 60
VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 1, 2**31, 10**30, -0.5, 1e308, float("nan"), float("inf"), "", "x", "[/red]", "\x1b[31m",
    "../../x", "\u2028", "NaN", "1e999", [], {}, [[]], [None], {"a": {}}, "x" * 5000, [0] * 300, "\ud800",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """`file` is damaged by `damage`; `commands` read it, with {} for the folder."""

    file: str
    commands: Sequence[Sequence[str]]
    damage: Callable[[bytes, random.Random], bytes]


# -------------------------------------------------------------------- damage


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """Torn, empty, flipped, doubled, or another kind of file altogether."""
    kind = rng.randrange(7)
    if kind == 0:
        return data[: rng.randrange(len(data) + 1)]
    if kind == 1:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 8))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == 2:
        start = rng.randrange(len(data) + 1)
        return data[:start] + data[rng.randrange(len(data) + 1) :]
    if kind == 3:
        return data + rng.choice((b"\0", b"\n\n", b"{}", data))
    if kind == 4:
        return bytes(rng.randrange(256) for _ in range(rng.choice((0, 1, 8, 300))))
    if kind == 5:
        return rng.choice(
            (b"[" * 100_000, b'{"a":' * 50_000, b"<!DOCTYPE html><html>", b"\xef\xbb\xbf" + data, b"9" * 10_000,
             b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", b"\xff\xfe" + data)
        )  # fmt: skip
    return data.replace(b"0", b"-7", rng.randrange(1, 4))


def of_json(data: bytes, rng: random.Random) -> bytes:
    """A value replaced, removed, added or swapped; now and then the bytes."""
    if rng.random() < 0.2:
        return of_bytes(data, rng)
    content = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = _changed(content, rng)
    return json.dumps(content).encode("utf-8", "surrogatepass")


def of_lines(data: bytes, rng: random.Random) -> bytes:
    """One line of JSON lines changed, or the lines shuffled."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.15:
        rng.shuffle(lines)
    elif lines[at].strip():
        lines[at] = of_json(lines[at], rng)
    return b"\n".join(lines)


def of_toml(data: bytes, rng: random.Random) -> bytes:
    """A value of a line changed."""
    if rng.random() < 0.3:
        return of_bytes(data, rng)
    lines = data.decode().split("\n")
    at = rng.choice([i for i, line in enumerate(lines) if "=" in line])
    key = lines[at].split("=")[0]
    value = rng.choice(
        ("nan", "inf", "-1", "0", "1e308", "10" * 20, "true", "''", "[]", "[[]]", "{}", "[-1]", '"x"', "[")
    )
    lines[at] = f"{key}= {value}"
    return "\n".join(lines).encode()


def of_safetensors(data: bytes, rng: random.Random) -> bytes:
    """The header changed as JSON, with its length right or wrong; or the bytes."""
    if rng.random() < 0.3:
        return of_bytes(data, rng)
    (size,) = struct.unpack("<Q", data[:8])
    header = of_json(data[8 : 8 + size], rng)
    length = len(header) if rng.random() < 0.9 else rng.choice((0, 2**40, 2**63, len(header) + 1))
    return struct.pack("<Q", length) + header + data[8 + size :]


def of_csv(data: bytes, rng: random.Random) -> bytes:
    """A field changed."""
    if rng.random() < 0.3:
        return of_bytes(data, rng)
    rows = [line.split(",") for line in data.decode().split("\n")]
    row = rng.choice(rows)
    row[rng.randrange(len(row))] = rng.choice(("", "nan", "-1", "1e999", "x", '"', "0", "9" * 400))
    return "\n".join(",".join(row) for row in rows).encode()


def _changed(content: object, rng: random.Random) -> object:
    paths = list(_paths(content))
    if not paths:
        return copy.deepcopy(rng.choice(VALUES))
    path = rng.choice(paths)
    parent = content
    for key in path[:-1]:
        parent = parent[key]  # type: ignore[index]
    kind = rng.randrange(6)
    if kind == 0:
        del parent[path[-1]]  # type: ignore[attr-defined]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(("x", "[/red]", "", "\x1b[31m"))] = copy.deepcopy(rng.choice(VALUES))
    elif kind == 1 and isinstance(parent, list):
        parent.append(copy.deepcopy(rng.choice(VALUES)))
    elif kind == 2 and isinstance(parent[path[-1]], (int, float)):  # type: ignore[index]
        parent[path[-1]] = -parent[path[-1]] * rng.choice((1, 1000, 10**12))  # type: ignore[index]
    elif kind == 3:
        other: object = content
        for key in rng.choice(paths):
            other = other[key]  # type: ignore[index]
        parent[path[-1]] = json.loads(json.dumps(other))  # type: ignore[index]
    else:
        parent[path[-1]] = copy.deepcopy(rng.choice(VALUES))  # type: ignore[index]
    return content


def _paths(content: object, before: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        yield (*before, key)
        yield from _paths(value, (*before, key))


# -------------------------------------------------------------------- the cases

SEARCHED = [["search", "--supernet", "{}/net", "--evals", "2", "--out", "{}/new"]]
SPOKEN = [["search", "--audio", "{}/speech/manifest.jsonl", "--evals", "2", "--out", "{}/new"]]
HEARD = [["search", "--supernet", "{}/hf", "--audio", "{}/speech/manifest.jsonl", "--evals", "2", "--out", "{}/new"]]

CASES: dict[str, Case] = {
    "run.json": Case(
        "run/run.json",
        [
            ["status", "{}/run"], ["report", "{}/run"], ["report", "{}/run", "--json"],
            ["export", "{}/run", "--format", "json", "--out", "{}/new"], ["search", "--resume", "{}/run"],
        ],
        of_json,
    ),
    "best.json": Case(
        "run/best.json",
        [
            ["export", "{}/run", "--format", "json", "--out", "{}/new"],
            ["cost", "--subnet", "{}/run/best.json"],
            ["export", "{}/run/best.json", "--supernet", "hubert-tiny", "--format", "json", "--out", "{}/new"],
        ],
        of_json,
    ),
    "ledger": Case(
        "run/ledger.jsonl",
        [["status", "{}/run"], ["report", "{}/run", "--json"], ["search", "--resume", "{}/run"]],
        of_lines,
    ),
    "subnet.json": Case("subnet.json", [["cost", "--subnet", "{}/subnet.json"]], of_json),
    "space": Case("space.toml", [["space", "{}/space.toml"], ["cost", "--space", "{}/space.toml"]], of_toml),
    "settings": Case("settings.toml", [["search", "--config", "{}/settings.toml", "--print-config"]], of_toml),
    "sweep.json": Case(
        "sweep/sweep.json", [["status", "{}/sweep"]], of_json
    ),
    "manifest": Case("speech/manifest.jsonl", SPOKEN, of_lines),
    "recording": Case("speech/0.wav", SPOKEN, of_bytes),
    "supernet config": Case("net/config.json", SEARCHED, of_json),
    "supernet weights": Case("net/model.safetensors", SEARCHED, of_safetensors),
    "calibration speech": Case("net/calibration.safetensors", SEARCHED, of_safetensors),
    "hugging face config": Case("hf/config.json", HEARD, of_json),
    "hugging face weights": Case("hf/model.safetensors", HEARD, of_safetensors),
    "preprocessor": Case("hf/preprocessor_config.json", HEARD, of_json),
    "pickle": Case("lighthubert.pt", [["cost", "--supernet", "{}/lighthubert.pt"]], of_bytes),
    "calibration": Case("calibration.json", [["latency", "show", "{}/calibration.json"]], of_json),
    "measurements": Case("rows.csv", [["latency", "fit", "--csv", "{}/rows.csv"]], of_csv),
}  # fmt: skip


def build(folder: Path) -> None:
    """Whole files of every kind, small ones."""
    import soundfile
    import torch
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    from evaluators.costs.latency.calibration import LatencyCalibration
    from evaluators.costs.latency.measure import Timings
    from evaluators.costs.latency.target import Target, machine
    from search_spaces import get_space
    from supernet import load_supernet, save_supernet
    from supernet.calibration import load_calibration, save_calibration

    search = ["search", "--evals", "16", "--budget", "params<=2.5M", "--out", f"{folder}/run"]
    assert run(search)[0] == 0
    model = load_supernet("hubert-tiny")
    save_supernet(model, folder / "net")
    assert model.calibration is not None
    save_calibration(model.calibration, folder / "net" / "calibration.safetensors")
    assert load_calibration(folder / "net" / "calibration.safetensors")
    (folder / "subnet.json").write_text(model.space.middle.to_json())
    (folder / "space.toml").write_text((Path(cli.__file__).parent / "benchmarks" / "enumerable.toml").read_text())
    printed = run(["search", "--budget", "params<=2.5M", "--print-config"])[1]
    (folder / "settings.toml").write_text(printed)
    (folder / "sweep").mkdir()
    job = json.loads((folder / "run" / "run.json").read_text())["settings"]
    (folder / "sweep" / "sweep.json").write_text(json.dumps({"jobs": {"a": job}, "command": "nas sweep"}))
    (folder / "speech").mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for i in range(4):
        soundfile.write(folder / "speech" / f"{i}.wav", 0.1 * rng.standard_normal(8000), 16_000)
        lines.append(json.dumps({"audio": f"{i}.wav", "seconds": 0.5, "speaker": i % 2, "text": "a b", "split": None}))
    (folder / "speech" / "manifest.jsonl").write_text("\n".join(lines))
    config = HubertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    HubertModel(config).save_pretrained(folder / "hf")
    Wav2Vec2FeatureExtractor().save_pretrained(folder / "hf")
    torch.save({"cfg": {"model": {"_name": "hubert"}}, "model": {"w": torch.zeros(3)}}, folder / "lighthubert.pt")
    space = get_space("hubert-tiny")
    draw = np.random.default_rng(0)
    subnets = tuple(space.sample(draw) for _ in range(16))
    ms = 5 + draw.random(16)
    target = Target.parse("torch,threads=1")
    timings = Timings(target, subnets, ms, np.full(16, 0.01), ms, space.middle, 5.0, 8, 0.01, 1.0, 0.0)
    made = LatencyCalibration(space, timings, machine("cpu"), target.versions(), "2026-01-01T00:00:00+00:00")
    (folder / "calibration.json").write_text(json.dumps(made.to_dict()))
    rows = ["embed_dim,heads_1,heads_2,ffn_ratio_1,ffn_ratio_2,latency_ms"]
    rows += [f"{128 + 64 * (i % 2)},{2 + i % 3},{2 + i % 2},{1 + i % 3},{2 + i % 2},{5 + i % 7}" for i in range(40)]
    (folder / "rows.csv").write_text("\n".join(rows))


# -------------------------------------------------------------------- trials


def trial(name: str, folder: Path, seed: int) -> str | None:
    """How one damaged file fell short, or None. `folder` holds the whole files, and holds them again afterwards."""
    case, rng = CASES[name], random.Random(f"{name} {seed}")
    file = folder / case.file
    whole = folder.with_name(f"{folder.name}.whole")
    if not whole.exists():
        shutil.copytree(folder, whole)
    command = [word.replace("{}", str(folder)) for word in rng.choice(list(case.commands))]
    file.write_bytes(case.damage(file.read_bytes(), rng))
    try:
        return _fault(command)
    finally:
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)


def _fault(command: Sequence[str]) -> str | None:
    shown, started = " ".join(command), time.monotonic()
    status, output, errors, error = run(command)
    if error is None:
        steering = any(each in output + errors for each in ("\x1b[31m", "\u2028"))
        if steering or (status and (len(errors.strip().splitlines()) > 3 or len(errors) > 3000)):
            return f"output {(output + errors)[-300:]!r}: {shown}"
        return None if status in (0, 2, 3, 4) else f"status {status}: {shown}"
    if isinstance(error, TimeoutError):
        return f"hang: {shown}"
    ours = [each for each in traceback.extract_tb(error.__traceback__) if "site-packages" not in each.filename]
    at = [f"{Path(each.filename).name}:{each.lineno}" for each in ours[-3:]]
    seconds = time.monotonic() - started
    return f"{type(error).__name__} at {' '.join(at)}: {error!s:.150} <- {shown} ({seconds:.0f} s)"


def run(command: Sequence[str]) -> tuple[int, str, str, BaseException | None]:
    """Exit status, output and messages of `nas command` in this process, and what would be a traceback."""
    streams = sys.stdout, sys.stderr, sys.argv, warnings.showwarning
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    texts = sys.stdout, sys.stderr
    sys.argv = ["nas", *command]
    status, fault = 0, None
    try:
        with warnings.catch_warnings(), _limited():
            warnings.simplefilter("ignore")
            cli.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        fault = error
    finally:
        for text in texts:
            text.flush()
        output, errors = (text.buffer.getvalue().decode("utf-8", "replace") for text in texts)  # type: ignore[attr-defined]
        sys.stdout, sys.stderr, sys.argv, warnings.showwarning = streams
    return status, output, errors, fault


@contextmanager
def _limited() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "files"
        folder.mkdir()
        build(folder)
        end, tried, faults = time.monotonic() + 60 * args.minutes, Counter[str](), Counter[str]()
        seed = args.seed
        while time.monotonic() < end:
            for name in args.only:
                fault = trial(name, folder, seed)
                tried[name] += 1
                if fault:
                    faults[name] += 1
                    print(f"{name}, seed {seed}: {fault}".replace(str(folder), ""), flush=True)
            seed += 1
    for name in args.only:
        print(f"{name}: {faults[name]} of {tried[name]} fell short")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
