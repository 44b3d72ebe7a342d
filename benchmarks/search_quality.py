"""Which searcher finds the best subnet with the fewest evaluations?

    OMP_NUM_THREADS=1 python -m benchmarks.search_quality enumerable     # known optimum, real scores
    OMP_NUM_THREADS=1 python -m benchmarks.search_quality full           # whole spaces
    OMP_NUM_THREADS=1 python -m benchmarks.search_quality odd            # scores that are not additive
    OMP_NUM_THREADS=1 python -m benchmarks.search_quality chains         # known optimum, terms of neighbours: exact
    OMP_NUM_THREADS=1 python -m benchmarks.search_quality overhead       # milliseconds per proposal

Every searcher gets the same number of true evaluations; scores come from a table and cost nothing, so only quality is
compared. `benchmarks.score_table` makes the table of `enumerable`. Regret: the best score within the budget minus the
best score reached. Tables show medians over seeds and budgets, with quartiles in brackets.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import nas
from benchmarks._common import command_line, header
from benchmarks.baselines import BASELINES
from evaluators.costs import params
from evaluators.scores import synthetic
from nas.runs.ledger import Evaluation
from nas.searchers import SEARCHERS
from nas.testing.worlds import chain_world
from search_spaces import AdditiveTable, Feasible, Space, Subnet, get_space

EVALS = (32, 64, 128, 256)
REPORTED = (64, 256)  # of whole spaces
SLOW = {"optuna-gp": 64, "raw Optuna TPE, univariate": 256}  # evaluations: three seeds, the enumerable space only
NOTHING = 1e6  # the regret of a search that found no subnet within the budget
BUDGETS = (0.05, 0.1, 0.3, 0.5, 0.8)  # share of the subnets that fit

Score = Callable[[Sequence[Subnet]], list[float]]


class Lookup:
    """The scores of a whole small space; greater is better."""

    name, higher_is_better = "lookup", True

    def __init__(self, file: Path) -> None:
        data = np.load(file)
        self.space = get_space(str(Path(__file__).parent / "enumerable.toml"))
        self.vectors, self.scores = data["vectors"].astype(np.int64), -data["scores"]
        self._of = {tuple(row): score for row, score in zip(self.vectors.tolist(), self.scores.tolist(), strict=True)}

    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        return [self._of[tuple(self.space.encode(subnet).tolist())] for subnet in subnets]


class Odd:
    """Scores that are not sums over layers: strong pairs, three-way terms, a hidden threshold, noise."""

    name, higher_is_better = "odd", True

    def __init__(self, space: Space, kind: str, seed: int) -> None:
        self.space, self.kind, self.seed = space, kind, seed
        self.plain = synthetic(space, seed=seed, interactions=2.0 if kind == "pairs" else 0.0)
        most = max(len(choices) for choices in space.choices)
        self.threes = np.random.default_rng(seed).standard_normal((space.network.num_layers, most, most, most))

    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        return [value + self._more(subnet) for value, subnet in zip(self.plain(subnets), subnets, strict=True)]

    def _more(self, subnet: Subnet) -> float:
        space = self.space
        chosen = [space.choices[layer].index(choice) for layer, choice in space.layers_of(subnet).items()]
        if self.kind == "three-way":
            triples = zip(chosen, chosen[1:], chosen[2:])
            return float(sum(self.threes[i][triple] for i, triple in enumerate(triples))) / len(chosen)
        if self.kind == "threshold":  # too few heads early cost half a point, too narrow FFNs late the other half
            heads = sum(h > space.heads[0][0] for h in subnet.heads[:4])
            ratios = sum(r > space.ffn_ratios[0][0] for r in subnet.ffn_ratios[-4:])
            return -0.5 * (heads < 3) - 0.5 * (ratios < 3)
        if self.kind == "noise":
            return 0.1 * float(np.random.default_rng([self.seed, int(subnet.id, 16)]).standard_normal())
        return 0.0


def names(kinds: str) -> list[str]:
    return [*SEARCHERS, *BASELINES] if kinds == "all" else kinds.split(",")


def scores_of(
    name: str, space: Space, score: Score, table: AdditiveTable, limit: float, evals: int, seed: int
) -> list[float]:
    """Scores in the order of evaluation."""
    evals = min(evals, SLOW.get(name, evals))
    if name in SEARCHERS:
        budgets = (nas.Budget("params", limit),)
        result = nas.search(space, score, {"params": table}, budgets, name, evals, seed)
        return [e.score for e in result.evaluations if e.score is not None]
    walk = BASELINES[name](space, table, limit, seed)
    scores: list[float] = []
    with suppress(StopIteration):
        subnet = next(walk)
        while len(scores) < evals:
            scores += score([subnet])
            subnet = walk.send(scores[-1])
    return scores


def best_after(name: str, scores: Sequence[float]) -> list[float]:
    """The best of the first 32, 64, ... scores, NaN beyond those of a slow one; one that ends early keeps its best."""
    so_far, most = np.maximum.accumulate([*scores] or [-np.inf]), SLOW.get(name, EVALS[-1])
    return [float(so_far[min(n, len(so_far)) - 1]) if n <= most else float("nan") for n in EVALS]


# -------------------------------------------------------------------- the four parts


def enumerable(job: tuple[str, int, Path]) -> dict[str, Any]:
    """Regret and hypervolume of one searcher and seed, under every budget."""
    name, seed, file = job
    score = Lookup(file)
    table = params(score.space).table
    costs = table.of_vectors(score.vectors)
    regret, rank = [], []
    for share in BUDGETS:
        limit = int(np.quantile(costs, share))
        fits = score.scores[costs <= limit]
        best = best_after(name, scores_of(name, score.space, score, table, limit, EVALS[-1], seed))
        regret.append([float(fits.max()) - value for value in best])
        rank.append([int((fits > value).sum()) if value == value else -1 for value in best])
    return {"name": name, "seed": seed, "regret": regret, "rank": rank, "hypervolume": fronts(name, seed, score, table)}


def fronts(name: str, seed: int, score: Lookup, table: AdditiveTable) -> list[float] | None:
    """The share of the known front's hypervolume after 32, 64, ... evaluations, without a budget."""
    if name not in SEARCHERS or name in SLOW:
        return None
    costs = table.of_vectors(score.vectors)
    reference = (float(costs.max()), float(score.scores.min()))
    whole = nas.hypervolume(costs, score.scores, reference)
    result = nas.search(
        score.space, score, {"params": table}, (), name, EVALS[-1], seed, objectives=("score", "params")
    )
    points = [(e.costs["params"], e.score) for e in result.evaluations]
    return [nas.hypervolume(*zip(*points[:n], strict=True), reference) / whole for n in EVALS]


def full(job: tuple[str, int, str]) -> dict[str, Any]:
    """The best scores in whole spaces, under tight, middle and loose budgets."""
    name, seed, space_name = job
    space = get_space(space_name)
    score = synthetic(space, seed=seed, interactions=0.5)
    return {"name": name, "seed": seed, "best": _under_budgets(name, space, score, seed)}


def odd(job: tuple[str, int, str]) -> dict[str, Any]:
    name, seed, kind = job
    space = get_space("hubert-tiny")
    return {"name": name, "seed": seed, "best": _under_budgets(name, space, Odd(space, kind, seed), seed)}


def _under_budgets(name: str, space: Space, score: Score, seed: int) -> list[list[float]]:
    table = params(space).table
    low, high = table.range()
    limits = [int(low + part * (high - low)) for part in (0.15, 0.35, 0.65)]
    return [best_after(name, scores_of(name, space, score, table, limit, EVALS[-1], seed)) for limit in limits]


def overhead(name: str, most: int) -> Iterator[tuple[int, float]]:
    """(evaluations, milliseconds per proposal), of the searcher alone."""
    space = get_space("hubert-tiny")
    table, score = params(space).table, synthetic(space, seed=0, interactions=0.3)
    low, high = table.range()
    limit = int(low + 0.35 * (high - low))
    searcher = nas.get_searcher(name)(
        Feasible(space, [(table, limit)]), nas.Objective(), np.random.default_rng(0), most
    )
    done, spent, since = 0, 0.0, 0
    for mark in (100, 1000, 5000):
        while done < min(mark, most):
            before = time.perf_counter()
            asked = searcher.ask(16)
            spent += time.perf_counter() - before
            values = score(asked)
            evaluations = [
                Evaluation(done + i, s, {"params": table.of(s)}, v) for i, (s, v) in enumerate(zip(asked, values))
            ]
            before = time.perf_counter()
            searcher.tell(evaluations)
            spent += time.perf_counter() - before
            done += len(asked)
            since += len(asked)
            if done < 0.9 * mark:
                spent, since = 0.0, 0  # only the last tenth counts
        yield done, 1e3 * spent / since
        if done >= most:
            return


# -------------------------------------------------------------------- tables


def show(title: str, rows: dict[str, list[list[float]]], scale: float = 1.0, sign: int = 1) -> None:
    """One line per searcher, best at 64 first: median and quartiles. `sign` is -1 if more is better."""
    some = [i for i in range(len(EVALS)) if any(np.isfinite(row[i]) for values in rows.values() for row in values)]
    print(f"\n{title}\n\n| searcher | {' | '.join(str(EVALS[i]) for i in some)} |\n|---|{'---|' * len(some)}")
    for name, values in sorted(rows.items(), key=lambda item: sign * float(np.mean(np.array(item[1])[:, 1]))):
        low, middle, high = np.quantile(np.array(values)[:, some] * scale, [0.25, 0.5, 0.75], axis=0)
        cells = ["" if m != m else f"{m:.3g} [{a:.3g}, {b:.3g}]" for a, m, b in zip(low, middle, high, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


def grouped(results: Sequence[dict[str, Any]], key: str) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {}
    for result in results:
        if result[key] is not None:
            rows.setdefault(result["name"], []).append(result[key])
    return rows


def report_enumerable(results: Sequence[dict[str, Any]]) -> None:
    regret = {name: [row for each in rows for row in each] for name, rows in grouped(results, "regret").items()}
    show("Regret under 5 budgets, in 1/1000 of the teacher distance", regret, 1e3)
    rank = {name: np.array(rows).reshape(-1, len(EVALS)) for name, rows in grouped(results, "rank").items()}
    print(f"\nSearches that found the best of all, in %\n\n| searcher | {' | '.join(map(str, EVALS))} |")
    print(f"|---|{'---|' * len(EVALS)}")
    for name, rows in sorted(rank.items(), key=lambda item: -float((item[1][:, 2] == 0).mean())):
        cells = [f"{100 * (column == 0).mean():.0f}" if (column >= 0).all() else "" for column in rows.T]
        print(f"| {name} | {' | '.join(cells)} |")
    show("Hypervolume of score against params, in % of the known front's", grouped(results, "hypervolume"), 100, -1)


def chain(job: tuple[str, float, int]) -> tuple[bool, int, float, float]:
    """Whether `exact` found the optimum of 256 granted evaluations, how many it took, regret and certificate in sd."""
    name, strength, seed = job
    space = get_space(name)
    world, table = chain_world(space, strength, seed), params(space).table
    low, high = table.range()
    limit = (low + high) // 2
    feasible = Feasible(space, [(table, limit)])
    drawn = feasible.sample(np.random.default_rng(0), 2000)
    spread = float(world.of_vectors([space.encode(subnet) for subnet in drawn]).std())

    def score(subnets: Sequence[Subnet]) -> list[float]:
        return world.of_vectors([space.encode(subnet) for subnet in subnets]).tolist()  # type: ignore[no-any-return]

    with tempfile.TemporaryDirectory() as folder:
        budget = (nas.Budget("params", limit),)
        result = nas.search(space, score, {"params": table}, budget, "exact", 256, seed, out=folder)
        trust = json.loads((Path(folder) / "run.json").read_text())["trust"]
    optimum = feasible.best(world)
    assert result.best is not None
    assert result.best.score is not None
    regret = float(world.of(optimum)) - result.best.score
    return result.best.subnet == optimum, len(result.evaluations), regret / spread, trust["regret"] / spread


def report_chains(seeds: int, jobs: int) -> None:
    print("| space | pairs | optimum found | evaluations | mean regret | mean certificate | certificates broken |")
    print("|---|---|---|---|---|---|---|")
    with ProcessPoolExecutor(jobs) as pool:
        for name, strength in product(("hubert-tiny", "lighthubert-base"), (0.0, 0.1, 0.25, 0.5)):
            rows = list(pool.map(chain, [(name, strength, seed) for seed in range(seeds)]))
            found, used, regret, certificate = (np.array(column) for column in zip(*rows, strict=True))
            cells = [
                name,
                strength,
                f"{found.sum()} of {seeds}",
                f"{used.min()}-{used.max()}",
                f"{regret.mean():.4f} sd",
            ]
            cells += [f"{certificate.mean():.4f} sd", f"{(certificate < regret - 1e-9).sum()} of {seeds}"]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


def report_best(results: Sequence[dict[str, Any]], key: str) -> None:
    """Regret to the best score of any searcher with that seed and budget; sorted by the final regret.

    "none": not one subnet within the budget.
    """
    columns = [(part, n) for part in range(3) for n in REPORTED]
    for kind in dict.fromkeys(result[key] for result in results):
        mine = [result for result in results if result[key] == kind]
        best = {
            seed: [max(np.nanmax(r["best"][part]) for r in mine if r["seed"] == seed) for part in range(3)]
            for seed in {r["seed"] for r in mine}
        }
        rows: dict[str, list[list[float]]] = {}
        for r in mine:
            short = [min(best[r["seed"]][part] - r["best"][part][EVALS.index(n)], NOTHING) for part, n in columns]
            rows.setdefault(r["name"], []).append(short)
        titles = [f"{('tight', 'middle', 'loose')[part]}, {n}" for part, n in columns]
        print(f"\n{kind}\n\n| searcher | {' | '.join(titles)} |\n|---|{'---|' * len(columns)}")
        last = [i for i, (_, n) in enumerate(columns) if n == REPORTED[-1]]
        for name, values in sorted(rows.items(), key=lambda item: float(np.median(item[1], axis=0)[last].sum())):
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
            cells = [f"{m:.2f} [{a:.2f}, {b:.2f}]" for a, m, b in zip(low, middle, high, strict=True)]
            cells = [cell.replace(f"{NOTHING:.2f}", "none") for cell in cells]
            print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("part", choices=("enumerable", "full", "odd", "chains", "overhead"))
    parser.add_argument("--table", type=Path, default=Path("enumerable.npz"))
    parser.add_argument("--searchers", default="all", help="Names, separated by commas.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="JSON lines of every search; searches in it are not repeated.")
    args = parser.parse_args()
    if args.part == "enumerable" and not args.table.exists():
        parser.error(f"no table {args.table}: benchmarks.score_table makes it")
    chosen = names(args.searchers)
    if args.part == "overhead":
        print("| searcher | at 100 | at 1,000 | at 5,000 |\n|---|---|---|---|")
        for name in [name for name in chosen if name in SEARCHERS]:
            most = {"optuna-gp": 100, "optuna-tpe": 1000}.get(name, 5000)
            print(f"| {name} | {' | '.join(f'{ms:.2f} ms' for _, ms in overhead(name, most))} |", flush=True)
        print(header())
        return
    if args.part == "chains":
        report_chains(args.seeds, args.jobs)
        print(header())
        return
    variants = {
        "enumerable": [args.table],
        "full": ["hubert-tiny", "lighthubert-small"],
        "odd": ["pairs", "three-way", "threshold", "noise"],
    }
    run = {"enumerable": enumerable, "full": full, "odd": odd}[args.part]
    if args.part != "enumerable":
        chosen = [name for name in chosen if name not in SLOW]
    jobs = [(n, s, o) for s, o, n in product(range(args.seeds), variants[args.part], chosen) if n not in SLOW or s < 3]
    saved = args.out.read_text().splitlines() if args.out and args.out.exists() else []
    results = [result for result in map(json.loads, saved) if result["seed"] < args.seeds and result["name"] in chosen]
    have = {(r["name"], r["seed"], r.get("of")) for r in results}
    jobs = [job for job in jobs if (job[0], job[1], str(job[2])) not in have]
    with ProcessPoolExecutor(args.jobs) as pool:
        for done, (job, result) in enumerate(zip(jobs, pool.map(run, jobs)), start=1):  # type: ignore[arg-type]
            results.append({**result, "of": str(job[2])})
            print(f"{done} of {len(jobs)}: {result['name']}, seed {result['seed']}", end="\r", file=sys.stderr)
            if args.out:
                with args.out.open("a") as file:
                    file.write(json.dumps(results[-1]) + "\n")
    if args.part == "enumerable":
        report_enumerable(results)
    else:
        report_best(results, "of")
    print(f"\n{args.seeds} seeds; {header()}")


if __name__ == "__main__":
    main()
