"""Overhead of the Ray executor: efficiency by actors, evaluations per second, driver memory, speed-up of two actors.

python -m benchmarks.ray_overhead efficiency     # evaluations that sleep 50 ms; 2 to 64 actors on two cores
python -m benchmarks.ray_overhead rate           # evaluations that do nothing
python -m benchmarks.ray_overhead memory         # driver memory over 100,000 evaluations that do nothing
python -m benchmarks.ray_overhead pairs          # the real supernet, one and two actors alternating
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import command_line, header
from search_spaces import Subnet, get_space

SPACE = get_space("hubert-tiny")


class Sleep:
    """A score that sleeps; its value is the embed dim."""

    higher_is_better, name = True, "sleep"

    def __init__(self, seconds: float) -> None:
        self.seconds, self.settings = seconds, {"seconds": seconds}

    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        for _ in subnets if self.seconds else ():
            time.sleep(self.seconds)
        return [float(subnet.embed_dim) for subnet in subnets]


@contextmanager
def ready(score: Any, actors: int, cpus: float = 0.01) -> Iterator[Any]:
    """An executor whose actors have all started."""
    from nas.executors.ray import RayExecutor

    with RayExecutor(score, "auto", actors=actors, cpus=cpus) as executor:
        while executor.alive < actors:
            executor.collect()
        yield executor


def search(executor: Any, evals: int, batch: int, asynchronous: bool = False) -> float:
    """Seconds of a random search with a run folder, up to its last evaluation (trust is computed afterwards)."""
    import nas
    from evaluators.costs import params

    with tempfile.TemporaryDirectory() as folder:
        start = last = time.perf_counter()

        def progress(evaluations: Sequence[Any]) -> None:
            nonlocal last
            last = time.perf_counter()

        nas.search(
            SPACE, executor.score, {"params": params(SPACE)}, ("params<=2.5M",), "random", evals, batch=batch,
            out=Path(folder) / "run", executor=executor, asynchronous=asynchronous,
            callbacks=[progress],
        )  # fmt: skip
        return last - start


def efficiency(args: argparse.Namespace) -> None:
    """The time that sleeping alone would take, divided by the actual time."""
    print("| actors | evaluations | batches of 32 per actor | of 64 | asynchronous |\n|---|---|---|---|---|")
    for actors in args.actors:
        evals = actors * 128
        with ready(Sleep(0.05), actors) as executor:
            search(executor, 4 * actors, 4 * actors)
            times = [search(executor, evals, n * actors, free) for n, free in ((32, False), (64, False), (32, True))]
        cells = " | ".join(f"{0.05 * 128 / seconds:.3f}" for seconds in times)
        print(f"| {actors} | {evals:,} | {cells} |", flush=True)


def rate(args: argparse.Namespace) -> None:
    for actors, batch in ((1, 16), (1, 64), (2, 64), (2, 512)):
        with ready(Sleep(0), actors) as executor:
            search(executor, 100, batch)
            rates = [2000 / search(executor, 2000, batch) for _ in range(3)]
        print(f"{actors} actors, batches of {batch}: {statistics.median(rates):,.0f} evaluations/s", flush=True)


def memory(args: argparse.Namespace) -> None:
    """Memory of the executor alone, then of a whole search, whose ledger and searcher keep every evaluation."""
    rng = np.random.default_rng(0)
    with ready(Sleep(0), 2) as executor:
        start = time.perf_counter()
        for done in range(0, 100_001, 1000):
            if done % 20_000 == 0:
                print(f"{done:,} evaluations: {resident():.1f} MB, {time.perf_counter() - start:.0f} s", flush=True)
            subnets = [SPACE.sample(rng) for _ in range(1000)]
            assert sum(len(chunk) for chunk in executor.run(subnets)) == 1000
        before = resident()
        search(executor, 20_000, 1000)
    print(
        f"a whole search of 20,000: {(resident() - before) / 20:.2f} MB per 1,000 evaluations, in ledger and searcher"
    )


def resident() -> float:
    """Resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def pairs(args: argparse.Namespace) -> None:
    from evaluators import scores
    from supernet import load_supernet

    score = scores.distillation(load_supernet("hubert-tiny"))
    rng = np.random.default_rng(0)
    ratios = []
    with ready(score, 1, 0.5) as one, ready(score, 2, 0.5) as two:
        for executor in (one, two):
            list(executor.run([SPACE.sample(rng) for _ in range(8)]))
        for _ in range(args.pairs):
            subnets = [SPACE.sample(rng) for _ in range(args.evals)]
            times = []
            for executor in (one, two):
                start = time.perf_counter()
                list(executor.run(subnets))
                times.append(time.perf_counter() - start)
            ratios.append(times[0] / times[1])
            print(f"{times[0]:.2f} s with one actor, {times[1]:.2f} s with two: {ratios[-1]:.2f}x", flush=True)
    spread = f"{min(ratios):.2f} – {max(ratios):.2f}"
    print(f"median {statistics.median(ratios):.2f}x ({spread}), {args.evals} subnets per run")


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("part", choices=("efficiency", "rate", "memory", "pairs"))
    parser.add_argument("--actors", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--evals", type=int, default=32)
    args = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        {"efficiency": efficiency, "rate": rate, "memory": memory, "pairs": pairs}[args.part](args)
    finally:
        cluster.shutdown()
    print(header())


if __name__ == "__main__":
    main()
