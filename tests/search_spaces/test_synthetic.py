from __future__ import annotations

import numpy as np
import pytest

from evaluators import scores
from nas.testing.worlds import tiny_space

SPACE = tiny_space()
SUBNETS = list(SPACE)


def test_the_known_optimum_is_the_best_of_all():
    score = scores.synthetic(SPACE, seed=3)
    best = score.table.best(score.table)
    assert max(SUBNETS, key=lambda subnet: score([subnet])[0]) == best


@pytest.mark.parametrize("options", [{}, {"noise": 0.3}, {"interactions": 0.5}, {"noise": 0.1, "interactions": 1.0}])
def test_a_score_depends_on_its_subnet_and_seed_alone(options):
    score = scores.synthetic(SPACE, seed=1, **options)
    backwards = score(SUBNETS[::-1])[::-1]
    assert score(SUBNETS) == backwards == scores.synthetic(SPACE, seed=1, **options)(SUBNETS)
    assert score(SUBNETS) != scores.synthetic(SPACE, seed=2, **options)(SUBNETS)


def test_noise_has_its_size_and_interactions_are_not_additive():
    plain = np.array(scores.synthetic(SPACE)(SUBNETS))
    noisy = np.array(scores.synthetic(SPACE, noise=0.2)(SUBNETS))
    assert np.std(noisy - plain) == pytest.approx(0.2, rel=0.15)
    paired = scores.synthetic(SPACE, interactions=1.0)
    of = dict(zip(SUBNETS, paired(SUBNETS)))
    squares = []  # f(a,b) - f(a',b) - f(a,b') + f(a',b') over layers 1 and 3 is 0 for every additive f
    for a, b in ((2, 4), (4, 6)):
        w, x, y, z = (next(s for s in SUBNETS if s.embed_dim == 128 and s.heads == h and set(s.ffn_ratios) == {1.5})
                      for h in ((a, a), (b, a), (a, b), (b, b)))  # fmt: skip
        squares.append(abs(of[w] - of[x] - of[y] + of[z]))
    assert min(squares) > 1e-3


def test_no_subnets_have_no_scores():
    assert scores.synthetic(SPACE)([]) == []


def test_every_score_is_listed():
    assert set(scores.SCORES) >= {"distillation", "synthetic"}
