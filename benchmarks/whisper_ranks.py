"""Which score ranks subnets of a Whisper like test speech does, within one budget: Kendall's tau with cross-entropy.

    nas convert whisper-base/ --audio speech/manifest.jsonl --out work/converted
    python -m benchmarks.whisper_ranks work/converted speech/manifest.jsonl test.jsonl --seconds 60 --seconds 240

For each share of the layers' params, random subnets within 2 % of it. Scores are of the first manifest's split dev,
on the seconds given; the test is all of the second, and its cross-entropy is in nats a token. Intervals are of 95 %, by
resampling the test's utterances and the subnets; the ceiling is the tau of the test's halves, mean of 100 splits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from benchmarks._common import command_line, header
from evaluators.costs import macs, params
from evaluators.scores import get_score
from evaluators.scores.decoding import DecodingScore
from search_spaces import AdditiveTable, Subnet
from search_spaces.types import Array
from supernet import HubertSupernet, load_supernet
from supernet.training.recipe import between

CONSOLE = Console(width=150)
BAND, SUBNETS, DRAWS = 0.02, 28, 1000


def test_scores(test: DecodingScore, subnets: list[Subnet]) -> tuple[Array, Array]:
    """Nats (N, U) and tokens (U,) of all utterances of the test, those set apart too."""
    parts = [part for part in (test, test.held_out) if part is not None]
    return np.concatenate([part.nats(subnets).numpy() for part in parts], 1), np.concatenate(
        [part.tokens.numpy() for part in parts]
    )


def layer_share(table: AdditiveTable, share: float) -> float:
    """The cost of a network with this share of the layers' cost."""
    space = table.space
    least, most = float(table.of(space.smallest)), float(table.of(space.largest))
    return least + share / 100 * (most - least)


def within(model: HubertSupernet, share: float, count: int) -> list[Subnet]:
    """Random subnets whose params are within a band below a share of the layers' params."""
    table = params(model).table
    limit = layer_share(table, share)
    return between(table, limit * (1 - BAND), int(limit)).sample(np.random.default_rng(0), count)


def tau(a: Array, b: Array) -> float:
    return float(kendalltau(a, b).statistic)


def interval(values: Array, nats: Array, tokens: Array, rng: np.random.Generator) -> tuple[float, float]:
    """Of the tau of `values` (N,) with the cross-entropy of `nats` (N, U)."""
    drawn = []
    for _ in range(DRAWS):
        rows, columns = rng.integers(0, len(nats), len(nats)), rng.integers(0, nats.shape[1], nats.shape[1])
        rows = np.unique(rows)  # a subnet drawn twice would tie with itself
        drawn.append(tau(values[rows], nats[rows][:, columns].sum(1) / tokens[columns].sum()))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def ceiling(nats: Array, tokens: Array, rng: np.random.Generator) -> float:
    """The mean tau of the cross-entropies of both halves of the test."""
    found = []
    for _ in range(100):
        order = rng.permutation(nats.shape[1])
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        found.append(tau(*(nats[:, half].sum(1) / tokens[half].sum() for half in halves)))
    return float(np.mean(found))


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("supernet", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--seconds", type=float, action="append", default=None)
    parser.add_argument("--share", type=float, action="append", default=None)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    CONSOLE.print(header())
    model = load_supernet(args.supernet)
    test = DecodingScore(model, "ce", args.test, args.device, seconds=1e9)
    nats, tokens = test_scores(test, [model.space.largest])
    whole = nats.sum() / tokens.sum()
    CONSOLE.print(f"{args.supernet}, {len(tokens)} test utterances; the whole encoder: {whole:.3f} nats a token")
    for share in args.share or [71.0, 50.0, 33.0]:
        subnets, rng = within(model, share, SUBNETS), np.random.default_rng(0)
        nats, tokens = test_scores(test, subnets)
        truth = nats.sum(1) / tokens.sum()
        found: dict[str, Array] = {
            "params": -np.array([params(model).of(subnet) for subnet in subnets], dtype=float),
            "macs": -np.array([macs(model.space).of(subnet) for subnet in subnets], dtype=float),
            "distillation": np.array(get_score("distillation", model, audio=args.audio, device=args.device)(subnets)),
        }
        for seconds in args.seconds or [240.0]:
            for kind in ("kl", "ce"):
                score = DecodingScore(model, kind, args.audio, args.device, seconds=seconds)
                found[f"{kind}, {seconds:g} s"] = np.array(score(subnets))
        spread = f"{truth.min():.2f} to {truth.max():.2f}, ceiling {ceiling(nats, tokens, rng):.2f}"
        shown = Table(title=f"{share:g} % of the layers' params: {SUBNETS} subnets, {spread}", title_justify="left")
        for column in ("score", "tau with the test", "95 %"):
            shown.add_column(column)
        for name, values in found.items():
            low, high = interval(values, nats, tokens, rng)
            shown.add_row(name, f"{tau(values, truth):.2f}", f"{low:.2f} to {high:.2f}")
        CONSOLE.print(shown)


if __name__ == "__main__":
    main()
