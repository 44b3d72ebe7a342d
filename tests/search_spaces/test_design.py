import numpy as np

from search_spaces.design import most_uncertain


def test_each_row_is_the_most_uncertain_after_those_before():
    x = np.random.default_rng(0).normal(size=(40, 6))
    chosen = most_uncertain(x, 6, first=[3, 5])
    assert chosen[:2] == [3, 5]
    for step in range(2, 6):
        known = x[chosen[:step]]
        left = x - x @ known.T @ np.linalg.solve(known @ known.T, known)
        variance = (left**2).sum(1)
        variance[chosen[:step]] = -1
        assert chosen[step] == variance.argmax()
    assert len(set(most_uncertain(x, 40, noise=1e-3))) == 40
