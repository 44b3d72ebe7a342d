"""Subnets of a converted and trained Whisper beside each other: error rates on test sets, with paired intervals.

    nas convert whisper-base/ --audio speech/manifest.jsonl --out work/converted
    nas train --init work/converted --audio speech/manifest.jsonl --out work/train ...
    python -m benchmarks.whisper work/converted speech/manifest.jsonl short.jsonl long.jsonl five.jsonl \
        --trained work/train/supernet --out work/figures --share 71 --share 50

For each share of the encoder's params: the winner of a search (kl, named by other speech), the best uniform subnet of
that search, the uniform one with equal shares of heads and FFN, and random ones that use nine tenths or more of the
budget. Test sets are manifests with the split test. What is evaluated is kept in `--out`, so that a run goes on after a
kill. Differences are of the same recordings, winner minus the other: below 0 the winner is better.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import nas
from benchmarks._common import command_line, header
from evaluators import scores
from evaluators.costs import params
from evaluators.tasks.recognition import compared, kept_recognition
from nas.report.formatting import interval_text
from search_spaces import AdditiveTable, Budget, Space, Subnet, ffn_ratio
from search_spaces.types import JsonObject
from supernet import HubertSupernet, load_supernet
from supernet.training.recipe import budgeted_subnets

CONSOLE = Console(width=150)


def proportional(space: Space, table: AdditiveTable, limit: float) -> Subnet:
    """The largest subnet within the limit that keeps the same share, in eighths, of heads and FFN in every layer."""
    network, whole = space.network, space.largest
    subnets = []
    for part in range(1, 9):
        heads = max(1, round(network.heads * part / 8))
        ratio = ffn_ratio(round(network.ffn_dim * part / 8), network.width)
        subnets.append(Subnet(whole.embed_dim, (heads,) * whole.depth, (ratio,) * whole.depth))
    return [subnet for subnet in subnets if table.of(subnet) <= limit][-1]


def candidates(model: HubertSupernet, share: float, audio: Path, folder: Path, draws: int) -> dict[str, Subnet]:
    """The subnets of one budget by name; the search's run is kept in `folder`."""
    space, cost = model.space, params(model)
    budget = Budget.parse(f"params<={share:g}%")
    score = scores.get_score("kl", model, audio=audio)
    resume = (folder / "run.json").exists()
    result = nas.search(
        space,
        score,
        costs={"params": cost},
        budgets=(budget,),
        evals=64,
        seed=0,
        out=folder,
        resume=resume,
        holdout=True,
    )
    assert result.best is not None
    (near,) = budgeted_subnets(space, (budget,), {"params": cost})
    limit = share / 100 * cost.of(space.largest)
    named = {"winner": result.best.subnet}
    if result.uniform is not None:
        named["best uniform"] = result.uniform.subnet
    named["proportional"] = proportional(space, cost.table, limit)
    for i, subnet in enumerate(near.subnets.sample(np.random.default_rng(0), draws)):
        named[f"random {i + 1}"] = subnet
    return named


def heard(folder: Path, supernet: Path, subnet: Subnet, manifest: Path, split: str) -> JsonObject:
    """The result of one subnet on one test set, from `folder` if it is there."""
    file = folder / f"{supernet.parent.name}-{supernet.name}-{subnet.id}-{manifest.stem}-{split}.json"
    return kept_recognition(file, supernet, subnet, manifest, split)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("converted", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("tests", type=Path, nargs="+")
    parser.add_argument("--trained", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", type=float, action="append", default=None)
    parser.add_argument("--split", default="test")
    parser.add_argument("--draws", type=int, default=3)
    args = parser.parse_args()
    CONSOLE.print(header())
    supernet = args.trained or args.converted
    model = load_supernet(supernet)
    whole = load_supernet(args.converted).space.largest
    table = params(model)
    originals = {test: heard(args.out, args.converted, whole, test, args.split) for test in args.tests}
    for test, result in originals.items():
        rates = ", ".join(f"{name} {interval_text(result['results'][name])}" for name in ("wer", "cer", "ce"))
        CONSOLE.print(f"original on {test.stem}, {result['data']['recordings']} recordings: {rates}")
    for share in args.share or [85.0, 71.0, 50.0, 33.0]:
        named = candidates(model, share, args.audio, args.out / f"search-{supernet.parent.name}-{share:g}", args.draws)
        shown = Table(title=f"{share:g} % of the encoder's params, {supernet}", title_justify="left")
        for column in ("subnet", "params", "test", "CER", "over the original", "CE", "winner - this, CE"):
            shown.add_column(column)
        for name, subnet in named.items():
            for test in args.tests:
                own = heard(args.out, supernet, subnet, test, args.split)
                best = heard(args.out, supernet, named["winner"], test, args.split)
                shown.add_row(
                    name,
                    f"{table.of(subnet) / 1e6:.2f}M",
                    test.stem,
                    interval_text(own["results"]["cer"]),
                    interval_text(compared(own, originals[test])["results"]["cer"]),
                    interval_text(own["results"]["ce"]),
                    interval_text(compared(best, own)["results"]["ce"]),
                )
        CONSOLE.print(shown)


if __name__ == "__main__":
    main()
