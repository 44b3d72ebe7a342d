"""The scale of the score model: it keeps the order, is undone exactly, and its slope is that of its curve."""

import numpy as np
import pytest

from nas.warp import Warp

SCORES = np.array([-9.0, -1.5, -1.0, 0.0, 0.4, 0.5, 0.7])


@pytest.mark.parametrize("width", [np.inf, 3.0, 0.25, 1e-3])
def test_it_keeps_the_order_and_is_undone(width):
    warp = Warp(0.5, width)
    values = warp(SCORES)
    assert (np.diff(values) > 0).all()
    assert warp.back(values) == pytest.approx(SCORES, rel=1e-6)
    assert values[-2:] == pytest.approx(SCORES[-2:])  # the best and what is above it stay as they are


@pytest.mark.parametrize("width", [np.inf, 3.0, 0.25])
def test_its_slope_is_that_of_the_curve(width):
    warp, step = Warp(0.5, width), 1e-6
    below = SCORES[:-2]
    slopes = (warp(below + step) - warp(below - step)) / (2 * step)
    assert warp.log_slope(below) == pytest.approx(float(np.log(slopes).sum()), abs=1e-5)


def test_a_prediction_far_below_all_scores_stays_finite():
    assert np.isfinite(Warp(0.5, 1e-3).back(np.array([-1e6]))).all()
