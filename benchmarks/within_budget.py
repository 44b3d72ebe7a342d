"""Within one budget: does a score rank subnets as tasks do, and what does search gain over simple choices?

    python -m benchmarks.within_budget ranks --audio speech/manifest.jsonl --out runs/within
    python -m benchmarks.within_budget gain --audio speech/manifest.jsonl --out runs/within

`ranks`: at each share of the largest subnet's params, subnets drawn uniformly from a band of 2 % below it. Kendall's
tau of each score with the test CER and with the mean rank over all tasks; 95 % intervals by resampling subnets and test
recordings (mean rank: subnets alone). Two ceilings: the tau of the CERs of both halves of the test recordings, and of
those of different heads of the same subnets.
`gain`: the winner of a search (`exact`, teacher distance) against the best uniform subnet of all on a grid by the same
score, the proportional uniform subnet (width, heads and FFN ratio scaled alike) and random draws near the limit: the
differences of test CER with paired 95 % intervals over the recordings, and those of each seed, which these intervals
do not show.

Tasks are those of `benchmarks.tasks`, one seed; letters have more recordings here (acted dialogue of up to 4 s) and the
mean of `--heads` heads with different seeds. Scores see the train and dev splits alone. Both parts keep their results
in OUT and continue from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

import nas
from benchmarks._common import command_line, header
from benchmarks.tasks import ALPHABET, METRICS, SharedFront, plain, prepare
from benchmarks.whisper_ranks import BAND, DRAWS, SUBNETS, ceiling, interval, tau
from evaluators import costs, scores
from evaluators.scores import get_score
from evaluators.tasks import evaluate
from evaluators.tasks.data import check_text, read_dataset
from evaluators.tasks.features import HiddenStates
from evaluators.tasks.fit import fit_seeds
from evaluators.tasks.metrics import edits, paired
from evaluators.tasks.settings import FitSettings
from evaluators.tasks.transcription import Transcription
from search_spaces import Feasible, Subnet
from search_spaces.types import Array
from supernet import HubertSupernet, load_supernet
from supernet.training.recipe import between

SHARES, RANDOM = (71, 50, 29), 5
LETTERS = {"train": 600, "dev": 100, "test": 450}
SMALL = {"speaker": (6, 3, 30), "language": (10, 5, 60), "keyword": (5, 2, 3)}
TASKS = ("speaker", "verification", "language", "keyword")
PROBES = ("probe:speaker", "probe:language", "probe:text")


# -------------------------------------------------------------------- the tasks of one subnet


class Judge:
    """Test results of subnets, kept in a file."""

    def __init__(self, model: HubertSupernet, audio: Path, out: Path, heads: int) -> None:
        self.model, self.out, self.file = model, out, out / f"results-{model.fingerprint()}.jsonl"
        self.heads = heads
        self.shared = SharedFront(model)
        self.manifests = prepare(audio, out / "tasks", SMALL, 2.5)
        self.letters_manifest = letters_manifest(audio, out / "tasks")
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        self.done: dict[str, dict[str, Any]] = {}
        for row in map(json.loads, lines):
            self.done[row["id"]] = {**self.done.get(row["id"], {}), **row}

    def letters(self, subnet: Subnet) -> tuple[Array, Array]:
        """Wrong letters (heads, N) and letters (N,) of the test recordings."""
        row = self.done.get(subnet.id, {})
        if len(row.get("wrong", ())) != self.heads:
            row = self._keep(subnet, self._letters(subnet))
        return np.array(row["wrong"], float), np.array(row["letters"], float)

    def tasks(self, subnet: Subnet) -> dict[str, float]:
        """The test result of each task, greater is better."""
        row = self.done.get(subnet.id, {})
        if any(task not in row for task in TASKS):
            row = self._keep(subnet, self._tasks(subnet))
        return {task: row[task] for task in TASKS}

    def _keep(self, subnet: Subnet, results: dict[str, Any]) -> dict[str, Any]:
        self.done[subnet.id] = {**self.done.get(subnet.id, {}), **results}
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"id": subnet.id, **results}) + "\n")
        shutil.rmtree(self.out / "states", ignore_errors=True)
        return self.done[subnet.id]

    def _letters(self, subnet: Subnet) -> dict[str, Any]:
        data, alphabet = check_text(self.letters_manifest, read_dataset(self.letters_manifest, "text"), ALPHABET)
        states = HiddenStates(self.shared.of(subnet), False, self.out / "states")
        states.fill(data.examples)
        problem = Transcription(data, alphabet, states)
        heads, _ = fit_seeds(problem, FitSettings((3e-2,), self.heads, epochs=30, batch=16))
        wrong = [
            [edits(e.label, guess)["cer"][0] for e, guess in zip(data.test, guesses, strict=True)]
            for guesses in problem.hypotheses(heads)
        ]
        return {"wrong": wrong, "letters": [len(e.label) for e in data.test]}

    def _tasks(self, subnet: Subnet) -> dict[str, Any]:
        upstream, results = self.shared.of(subnet), {}
        for task in TASKS:
            result = evaluate(upstream, task, self.manifests[task], FitSettings((1e-2,), 1), cache=self.out / "states")
            value = result["results"][METRICS[task]]["value"]
            results[task] = -value if METRICS[task] == "eer" else value
        return results


def letters_manifest(audio: Path, out: Path) -> Path:
    """Acted dialogue of 0.5 to 4 s with its text in plain letters, so many of each split."""
    rows = [json.loads(line) for line in audio.read_text(encoding="utf-8").splitlines()]
    rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())
    left, kept = dict(LETTERS), []
    for row in rows:
        text = plain(row["text"])
        if row["source"] == "queen" and text and 0.5 <= row["seconds"] <= 4 and left[row["split"]]:
            left[row["split"]] -= 1
            kept.append({**row, "text": text, "audio": str(audio.absolute().parent / row["audio"])})
    file = out / "letters.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return file


# -------------------------------------------------------------------- ranks


def ranks(args: argparse.Namespace) -> None:
    model = load_supernet(args.supernet)
    judge, rng = Judge(model, args.audio, args.out, args.heads), np.random.default_rng(args.seed)
    parameters, macs = costs.params(model.space), costs.macs(model.space)
    for share in SHARES:
        limit = share / 100 * parameters.of(model.space.largest)
        subnets = between(parameters.table, (1 - BAND) * limit, int(limit)).sample(rng, args.subnets)
        counted = [judge.letters(subnet) for subnet in subnets]
        results = [judge.tasks(subnet) for subnet in subnets]
        by_head, letters = np.stack([each for each, _ in counted], 1), counted[0][1]  # (heads, N, U)
        wrong = by_head.mean(0)
        cer = wrong.sum(1) / letters.sum()
        columns = [-cer, *(np.array([result[task] for result in results]) for task in TASKS)]
        mean_rank = np.mean([rankdata(column) for column in columns], axis=0)
        values: dict[str, Array] = {
            "params": np.array([parameters.of(subnet) for subnet in subnets], float),
            "MACs": np.array([macs.of(subnet) for subnet in subnets], float),
            "teacher distance": -np.array(scores.distillation(model)(subnets)),
        }
        for name in PROBES:
            values[name] = np.array(get_score(name, model, audio=args.audio)(subnets))
        values["sum of the probes"] = sum(standardised(values[name]) for name in PROBES)
        values["probes and distance"] = values["sum of the probes"] + standardised(values["teacher distance"])
        print(
            f"\n{share} %: {len(subnets)} subnets, {letters.size} test recordings of letters, CER {cer.min():.3f} to "
            f"{cer.max():.3f}, ceiling {ceiling(wrong, letters, rng):.2f}, between heads {between_heads(by_head):.2f}\n"
        )
        print("| score | CER | mean rank |\n|---|---|---|")
        for name, own in values.items():
            print(f"| {name} | {tau_of_letters(own, wrong, letters, rng)} | {tau_of(own, mean_rank, rng)} |")
    print(f"\n{header()}", flush=True)


def between_heads(wrong: Array) -> float:
    """The mean tau of the CERs of any two heads, from wrong letters (heads, N, U); NaN for one head."""
    totals = wrong.sum(2)
    pairs = [tau(a, b) for a, b in combinations(totals, 2)]
    return float(np.mean(pairs)) if pairs else float("nan")


def standardised(values: Array) -> Array:
    return (values - values.mean()) / (values.std() + 1e-12)


def tau_of_letters(values: Array, wrong: Array, letters: Array, rng: np.random.Generator) -> str:
    """Of `values` (N,) with minus the CER of wrong (N, U) among letters (U,)."""
    low, high = interval(values, -wrong, letters, rng)
    return f"{tau(values, -wrong.sum(1)):.2f} ({low:.2f} – {high:.2f})"


def tau_of(values: Array, worth: Array, rng: np.random.Generator) -> str:
    """Of `values` (N,) with `worth` (N,), resampling subnets alone."""
    drawn = [np.unique(rng.integers(0, len(worth), len(worth))) for _ in range(DRAWS)]
    low, high = np.nanquantile([tau(values[rows], worth[rows]) for rows in drawn], [0.025, 0.975])
    return f"{tau(values, worth):.2f} ({low:.2f} – {high:.2f})"


# -------------------------------------------------------------------- gain


def gain(args: argparse.Namespace) -> None:
    model = load_supernet(args.supernet)
    judge, space = Judge(model, args.audio, args.out, args.heads), model.space
    parameters, distance = costs.params(space), scores.distillation(model)
    for share in SHARES:
        limit = int(share / 100 * parameters.of(space.largest))
        chosen = rivals(model, distance, limit, args)
        counted = {name: judge.letters(subnet) for name, subnet in chosen.items()}
        own, letters = counted["search"]
        print(f"\n{share} %: at most {limit:,} params; {letters.size} test recordings, {len(own)} heads\n")
        print("| subnet | params | teacher distance | CER | search minus this, paired | by seed |")
        print("|---|---|---|---|---|---|")
        for name, subnet in chosen.items():
            wrong, _ = counted[name]
            mean = wrong.mean(0)
            difference = paired(own.mean(0), letters, mean, letters)
            text = f"{difference['value']:+.3f} ({difference['low']:+.3f} – {difference['high']:+.3f})"
            seeds = ", ".join(f"{each:+.3f}" for each in (own - wrong).sum(1) / letters.sum())
            print(
                f"| {name} | {parameters.of(subnet):,} | {distance([subnet])[0]:.4f} | "
                f"{mean.sum() / letters.sum():.3f} | {f'{text} | {seeds}' if name != 'search' else '|'} |"
            )
    print(f"\n{header()}", flush=True)


def rivals(model: HubertSupernet, distance: Any, limit: int, args: argparse.Namespace) -> dict[str, Subnet]:
    """The winner of a search, and what else one could take, by name."""
    space, parameters = model.space, costs.params(model.space)
    known = {"params": parameters}
    result = nas.search(space, distance, costs=known, budgets=(f"params<={limit}",), evals=args.evals, seed=args.seed)
    assert result.best is not None
    grid = list(Feasible(space, [(parameters.table, limit)], uniform=True).ranked(parameters.table))
    worth = dict(zip(grid, distance(grid), strict=True))
    large = [subnet for subnet in grid if parameters.of(subnet) >= 0.9 * limit]
    near = between(parameters.table, (1 - BAND) * limit, limit)
    rng = np.random.default_rng(args.seed + 1)
    return {
        "search": result.best.subnet,
        f"best of {len(grid)} uniform": min(grid, key=worth.__getitem__),
        "proportional uniform": min(large or grid, key=lambda own: (disproportion(space.largest, own), own.id)),
        **{f"random {i + 1}": subnet for i, subnet in enumerate(near.sample(rng, RANDOM))},
    }


def disproportion(largest: Subnet, subnet: Subnet) -> float:
    """How unlike the shares of width, heads and FFN ratio of a uniform subnet are."""
    shares = (
        subnet.embed_dim / largest.embed_dim,
        subnet.heads[0] / largest.heads[0],
        subnet.ffn_ratios[0] / largest.ffn_ratios[0],
    )
    return max(shares) - min(shares)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("part", choices=("ranks", "gain"))
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--supernet", default="hubert-tiny")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--subnets", type=int, default=SUBNETS, help="Subnets of each band.")
    parser.add_argument("--evals", type=int, default=256, help="Evaluations of each search.")
    parser.add_argument("--heads", type=int, default=3, help="Heads of letters, with different seeds.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    {"ranks": ranks, "gain": gain}[args.part](args)


if __name__ == "__main__":
    main()
