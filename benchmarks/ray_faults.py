"""Searches on real Ray clusters of three nodes, in which something is killed at a random time.

    python benchmarks/ray_faults.py --times 20

Killed, in turn: an evaluator's process, a whole node, the driver (kill -9), the head (and with it the cluster). Where
the driver ended, the search is resumed, on a new cluster where the head was killed. Afterwards the ledger must hold
every planned evaluation once, and the same ones, with the same scores and in the same order, as a search that nothing
disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._common import header

KINDS = ("evaluator", "node", "driver", "head")


class Slow:
    """The synthetic score, at `seconds` a subnet; its process ids are left in `folder`."""

    higher_is_better, name = True, "slow"

    def __init__(self, space: Any, seconds: float, folder: Path) -> None:
        from evaluators.scores import synthetic

        self.score, self.seconds, self.folder = synthetic(space, seed=1), seconds, folder
        self.settings = {"seconds": seconds}

    def __call__(self, subnets: list[Any]) -> list[float]:
        (self.folder / str(os.getpid())).touch()
        time.sleep(self.seconds * len(subnets))
        return self.score(subnets)


def drive(out: Path, evals: int, seconds: float, address: str) -> None:
    """The driver, in a process of its own: begins the search in `out`, or goes on with it."""
    import nas
    from evaluators.costs import params
    from nas.executors.ray import RayExecutor
    from search_spaces import get_space

    space = get_space("hubert-tiny")
    pids = out.parent / "pids"
    pids.mkdir(exist_ok=True)
    score = Slow(space, seconds, pids)
    search: dict[str, Any] = {"costs": {"params": params(space)}, "budgets": ("params<=2.5M",), "searcher": "evolution"}
    search |= {"evals": evals, "out": out, "resume": (out / "run.json").exists(), "batch": 16}
    if address == "here":
        nas.search(space, score, **search)
        return
    with RayExecutor(score, address, actors=4, cpus=1.0, wait=True) as executor:
        nas.search(space, score, executor=executor, **search)


def driver(out: Path, evals: int, seconds: float, address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.ray_faults", "--drive", str(out), str(evals), str(seconds), address]
    return subprocess.Popen(command, stderr=(out.parent / "driver.log").open("ab"), stdout=subprocess.DEVNULL)


@contextmanager
def cluster() -> Iterator[Any]:
    """A head without cores, and three nodes of two; so the driver's node is never one that is killed."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(3):
            made.add_node(num_cpus=2)
        yield made
    finally:
        made.shutdown()


def lines(ledger: Path) -> list[dict[str, Any]]:
    timeless = ("seconds", "at")
    return [
        {key: value for key, value in json.loads(line).items() if key not in timeless}
        for line in ledger.read_text().splitlines()
    ]


def disturbed(kind: str, at: float, out: Path, evals: int, seconds: float) -> dict[str, Any]:
    """One search in which `kind` is killed `at` seconds after its first evaluation."""
    out.parent.mkdir(parents=True)
    ledger, killed = out / "ledger.jsonl", 0
    for attempt in range(3):
        with cluster() as made:
            process = driver(out, evals, seconds, made.address)
            if not attempt:
                while process.poll() is None and not (ledger.exists() and ledger.stat().st_size):
                    time.sleep(0.02)
                time.sleep(at)
                killed = len(ledger.read_text().splitlines())
                kill(kind, made, process, out.parent / "pids")
            while process.poll() is None and kind == "driver" and not attempt:
                time.sleep(0.05)
            if kind == "driver" and not attempt:
                process = driver(out, evals, seconds, made.address)
            status = process.wait()
        if status == 0:
            return {"kind": kind, "at": at, "evaluations when killed": killed, "drivers": attempt + 1}
    raise SystemExit(f"the search did not end, status {status}: see {out.parent}/driver.log")


def kill(kind: str, made: Any, process: subprocess.Popen[bytes], pids: Path) -> None:
    if kind == "evaluator":
        alive = [int(file.name) for file in pids.iterdir()]
        os.kill(random.choice(alive), signal.SIGKILL)
    elif kind == "node":
        made.remove_node(random.choice(made.list_all_nodes()[1:]), allow_graceful=False)
    elif kind == "driver":
        process.kill()
        process.wait()
    else:
        made.head_node.kill_all_processes(check_alive=False, allow_graceful=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--evals", type=int, default=160)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--drive", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive:
        out, evals, seconds, address = args.drive
        drive(Path(out), int(evals), float(seconds), address)
        return
    random.seed(args.seed)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "undisturbed" / "run"
        whole.parent.mkdir()
        if driver(whole, args.evals, 0.0, "here").wait():
            raise SystemExit((whole.parent / "driver.log").read_text())
        wanted = lines(whole / "ledger.jsonl")
        best = json.loads((whole / "best.json").read_text())
        usual = args.evals * args.seconds / 4
        print("| killed | s after the first evaluation | evaluations then | wall | once each, same order | same best |")
        print("|---|---|---|---|---|---|")
        failures = 0
        for number in range(args.times):
            out = Path(scratch) / str(number) / "run"
            began, at = time.monotonic(), random.uniform(0, 0.8 * usual)
            told = disturbed(args.kinds[number % len(args.kinds)], at, out, args.evals, args.seconds)
            found = lines(out / "ledger.jsonl")
            once = len({line["id"] for line in found}) == len(found) == args.evals
            same = [(line["id"], line["score"]) for line in found] == [(line["id"], line["score"]) for line in wanted]
            answer = json.loads((out / "best.json").read_text()) == best
            failures += not (once and same and answer)
            words = ["no", "yes"]
            print(
                f"| {told['kind']} | {at:.1f} | {told['evaluations when killed']} of {args.evals} "
                f"| {time.monotonic() - began:.0f} s | {words[once and same]} | {words[answer]} |",
                flush=True,
            )
    print(f"{failures} of {args.times} failed; {header()}")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
