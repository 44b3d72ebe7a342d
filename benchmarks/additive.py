"""How fast exact questions about whole spaces are answered.

python -m benchmarks.additive
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice, pairwise

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks._common import command_line, header, milliseconds, spread
from evaluators.costs import macs, params
from search_spaces import AdditiveTable, ChainTable, Feasible, Space, Subnet, get_space
from search_spaces.proposals import proposed_space

Answer = int | Subnet | list[Subnet]


def questions(space: Space) -> dict[str, Callable[[], Answer]]:
    """The questions, by what the table calls them."""
    rng = np.random.default_rng(0)
    cost, work = params(space).table, macs(space).table
    score = AdditiveTable.build(space, "score", "", lambda *_: float(rng.normal()), lambda *_: float(rng.normal()))
    latency = AdditiveTable.build(
        space, "latency_ms", "ms", lambda D, depth: 4.0, lambda D, heads, ratio, *_: D * (heads + ratio) * 2e-4
    )
    pairs = {pair: rng.normal(size=(9, 9)) for kept in space.depth_map.values() for pair in pairwise(kept)}
    chain = ChainTable(space, "chain", "", score.constant, score.layers, pairs)
    fits = Feasible(space, [(cost, 13_000_000)])
    limits = [(cost, 27_000_000), (work, 3_600_000_000), (latency, latency.of(space.middle))]
    return {
        "count, params<=13M": lambda: cost.count(13_000_000),
        "count, params<=27M": lambda: cost.count(27_000_000),
        "10,000 uniform draws, params<=13M": lambda: cost.sample(13_000_000, np.random.default_rng(0), 10_000),
        "best by a real-valued score, params<=13M": lambda: cost.best(score, 13_000_000),
        "the same with terms of neighbouring layers": lambda: cost.best(chain, 13_000_000),
        "the best 1,000 with terms of neighbours": lambda: list(islice(fits.ranked(chain), 1000)),
        "front of params and a score with such terms": lambda: cost.front(chain),
        "front of params and a real-valued score": lambda: cost.front(score),
        "front of two real-valued tables": lambda: latency.front(score),
        "count under params, MACs and latency together": lambda: Feasible(space, limits).count(),
        "10,000 uniform draws under all three": lambda: Feasible(space, limits).sample(
            np.random.default_rng(0), 10_000
        ),
    }


def fine_questions(space: Space) -> dict[str, Callable[[], Answer]]:
    """Of a space with 117 choices a layer: params up to 40 % of the largest subnet's."""
    rng = np.random.default_rng(0)
    cost, work = params(space).table, macs(space).table
    score = AdditiveTable.build(space, "score", "", lambda *_: float(rng.normal()), lambda *_: float(rng.normal()))
    most = 2 * int(cost.of(space.largest)) // 5
    both = [(cost, most), (work, int(work.of(space.largest)) // 2)]
    return {
        "count, params<=40%": lambda: cost.count(most),
        "10,000 uniform draws, params<=40%": lambda: cost.sample(most, np.random.default_rng(0), 10_000),
        "best by a real-valued score, params<=40%": lambda: cost.best(score, most),
        "best of all, without a limit": lambda: Feasible(space).best(score),
        "best uniform one, params<=40%": lambda: Feasible(space, [(cost, most)], uniform=True).best(score),
        "front of params and a real-valued score": lambda: cost.front(score),
        "count under params and MACs together": lambda: Feasible(space, both).count(),
    }


def answer_text(answer: Answer) -> str:
    if isinstance(answer, int):
        return f"{answer:,}"
    return f"{len(answer)} subnets" if isinstance(answer, list) else answer.id


def main() -> None:
    command_line(__doc__).parse_args()
    console = Console(width=120)
    fine = proposed_space(get_space("lighthubert-base").network, "fine")
    for space, asked in ((get_space("lighthubert-small"), questions), (fine, fine_questions)):
        table = Table(title=f"all {space.size:,} subnets of {space.name}", title_justify="left")
        for column in ("question", "median (least – most)", "answer"):
            table.add_column(column)
        for name, call in asked(space).items():
            answer = call()
            table.add_row(name, spread(milliseconds(call)), answer_text(answer))
        console.print(table)
    console.print(header())


if __name__ == "__main__":
    main()
