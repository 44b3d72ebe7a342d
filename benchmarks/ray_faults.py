"""Searches on real Ray clusters of three nodes, in which something is killed at a random time.

    python -m benchmarks.ray_faults --times 20

In turn, an evaluator's process, a whole node, the driver (kill -9) or the head (and with it the cluster) is killed. If
the driver ended, the search is resumed, on a new cluster if the head was killed. Afterwards the ledger must hold every
planned evaluation once, with the same subnets, scores and order as a search without faults.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._common import command_line, header

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

    from search_spaces import Space, Subnet

KINDS = ("evaluator", "node", "driver", "head")


class Slow:
    """The synthetic score at `seconds` per subnet; each process that evaluates creates a file named after its id."""

    higher_is_better, name = True, "slow"

    def __init__(self, space: Space, seconds: float, folder: Path) -> None:
        from evaluators.scores import synthetic

        self.score, self.seconds, self.folder = synthetic(space, seed=1), seconds, folder
        self.settings = {"seconds": seconds}

    def __call__(self, subnets: list[Subnet]) -> list[float]:
        (self.folder / str(os.getpid())).touch()
        time.sleep(self.seconds * len(subnets))
        return self.score(subnets)


def drive(out: Path, evals: int, seconds: float, address: str) -> None:
    """The driver, in a process of its own: starts the search in `out`, or resumes it."""
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
    """A new process that runs `drive`."""
    command = [sys.executable, "-m", "benchmarks.ray_faults", "--drive", str(out), str(evals), str(seconds), address]
    return subprocess.Popen(command, stderr=(out.parent / "driver.log").open("ab"), stdout=subprocess.DEVNULL)


@contextmanager
def new_cluster() -> Iterator[Cluster]:
    """A head without cores and three nodes of two cores, so the driver never runs on a node that is killed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(3):
            cluster.add_node(num_cpus=2)
        yield cluster
    finally:
        cluster.shutdown()


@dataclass(frozen=True)
class Content:
    """What a finished run holds: (id, score) of each evaluation in order, and best.json."""

    evaluations: list[tuple[str, float]]
    best: dict[str, Any]

    @classmethod
    def read(cls, run: Path) -> Content:
        lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
        return cls([(line["id"], line["score"]) for line in lines], json.loads((run / "best.json").read_text()))


def disturbed(kind: str, delay: float, out: Path, evals: int, seconds: float) -> int:
    """Runs a search in which `kind` is killed `delay` seconds after its first evaluation.

    Returns the number of evaluations at that time. A driver that ended is started again, up to twice.
    """
    out.parent.mkdir(parents=True)
    killed_at = 0
    for attempt in range(3):
        with new_cluster() as cluster:
            process = driver(out, evals, seconds, cluster.address)
            if attempt == 0:
                wait_for_evaluations(process, out / "ledger.jsonl")
                time.sleep(delay)
                killed_at = len((out / "ledger.jsonl").read_text().splitlines())
                kill(kind, cluster, process, out.parent / "pids")
                if kind == "driver":
                    process = driver(out, evals, seconds, cluster.address)
            status = process.wait()
        if status == 0:
            return killed_at
    raise SystemExit(f"the search did not end, status {status}: see {out.parent}/driver.log")


def wait_for_evaluations(process: subprocess.Popen[bytes], ledger: Path) -> None:
    while process.poll() is None and not (ledger.exists() and ledger.stat().st_size):
        time.sleep(0.02)


def kill(kind: str, cluster: Cluster, process: subprocess.Popen[bytes], pids: Path) -> None:
    if kind == "evaluator":
        alive = [int(file.name) for file in pids.iterdir()]
        os.kill(random.choice(alive), signal.SIGKILL)
    elif kind == "node":
        cluster.remove_node(random.choice(cluster.list_all_nodes()[1:]), allow_graceful=False)
    elif kind == "driver":
        process.kill()
        process.wait()
    else:
        cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)


def undisturbed(out: Path, evals: int) -> Content:
    """The content of the same search without Ray and without faults."""
    out.parent.mkdir()
    if driver(out, evals, 0.0, "here").wait():
        raise SystemExit((out.parent / "driver.log").read_text())
    return Content.read(out)


def one_fault(number: int, scratch: Path, expected: Content, args: argparse.Namespace) -> bool:
    """Runs one search with a fault, prints its row of the table and returns whether its content is as expected."""
    kind, out = args.kinds[number % len(args.kinds)], scratch / str(number) / "run"
    typical_seconds = args.evals * args.seconds / 4
    start, delay = time.monotonic(), random.uniform(0, 0.8 * typical_seconds)
    killed_at = disturbed(kind, delay, out, args.evals, args.seconds)
    content = Content.read(out)
    ids = {subnet_id for subnet_id, _ in content.evaluations}
    same = content.evaluations == expected.evaluations and len(ids) == len(content.evaluations) == args.evals
    same_best = content.best == expected.best
    print(
        f"| {kind} | {delay:.1f} | {killed_at} of {args.evals} | {time.monotonic() - start:.0f} s "
        f"| {'yes' if same else 'no'} | {'yes' if same_best else 'no'} |",
        flush=True,
    )
    return same and same_best


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--times", type=int, default=20, help="Searches to run.")
    parser.add_argument("--evals", type=int, default=160, help="Evaluations of each search.")
    parser.add_argument("--seconds", type=float, default=0.1, help="Time of each evaluation.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, help="What to kill, in turn.")
    parser.add_argument("--drive", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive:
        out, evals, seconds, address = args.drive
        drive(Path(out), int(evals), float(seconds), address)
        return
    random.seed(args.seed)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as scratch:
        expected = undisturbed(Path(scratch) / "undisturbed" / "run", args.evals)
        print("| killed | s after the first evaluation | evaluations then | wall | once each, same order | same best |")
        print("|---|---|---|---|---|---|")
        failures = sum(not one_fault(number, Path(scratch), expected, args) for number in range(args.times))
    print(f"{failures} of {args.times} failed; {header()}")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
