from __future__ import annotations

import numpy as np

from nas import Objective, get_searcher
from nas.testing.worlds import evaluation, tiny_space
from search_spaces import Feasible


def tournaments(objective, value):
    """Who wins 2,000 of them, as numbers of 50 evaluations; number i has score and cost `value(i)`."""
    searcher = get_searcher("nsga2")(Feasible(tiny_space()), objective, np.random.default_rng(0), 400)
    subnets = searcher.ask(50)
    searcher.tell([evaluation(i, s, value(i)[0], value(i)[1]) for i, s in enumerate(subnets)])
    parents = objective.parents(searcher.told, searcher.parents)
    return [subnets.index(searcher._winner(parents)) for _ in range(2000)]


def test_the_better_of_two_wins():
    winners = tournaments(Objective(), lambda i: (float(i), 1))
    assert abs(np.mean(winners) - 32.8) < 1  # the greater of two uniform in 0..49 is 2/3 * 49 + 1/6 in the mean


def test_the_front_wins_over_the_rest_and_its_ends_win_most():
    winners = tournaments(Objective(cost="params"), lambda i: (float(i % 10) - 20 * (i >= 10), 100 * (i % 10 + 1)))
    counts = np.bincount(winners, minlength=50)
    front, rest = counts[:10], counts[10:]
    assert front.sum() > 0.34 * 2000  # 1 - (40 / 50) ** 2 = 0.36
    assert front.mean() > 2 * rest.mean()
    assert min(front[[0, 9]]) > front[1:9].mean()
