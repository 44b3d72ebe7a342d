"""Metrics against numbers worked out by hand, and intervals against theory."""

import numpy as np
import pytest

from evaluators.tasks.metrics import accuracy, detection, edit_rates, equal_error_rate, tie_broken


def test_accuracy_and_its_interval():
    right = np.zeros((1, 400))
    right[0, :300] = 1
    found = accuracy(right)["accuracy"]
    assert found["value"] == 0.75
    deviation = (0.75 * 0.25 / 400) ** 0.5  # of a binomial share
    assert found["low"] == pytest.approx(0.75 - 1.96 * deviation, abs=0.008)
    assert found["high"] == pytest.approx(0.75 + 1.96 * deviation, abs=0.008)
    assert accuracy(np.array([[1, 1], [0, 1]]))["accuracy"]["by_seed"] == [1.0, 0.5]


def test_edit_rates_are_edits_over_reference_length():
    found = edit_rates(["abcd efgh", "ab"], [["abcd efgh", "ab"], ["abd efgh", ""]])
    assert found["cer"]["by_seed"] == [0.0, round(3 / 11, 5)]
    assert found["wer"]["by_seed"] == [0.0, round(2 / 3, 5)]
    assert found["cer"]["value"] == pytest.approx(1.5 / 11, abs=1e-5)


def test_equal_error_rate_where_it_can_be_seen():
    same = np.array([True] * 4 + [False] * 4)
    assert equal_error_rate(same, np.array([8, 7, 6, 5, 4, 3, 2, 1.0])) == 0
    assert equal_error_rate(same, np.array([8, 7, 6, 1, 5, 4, 3, 2.0])) == 0.25  # one miss and one false alarm of 4
    assert equal_error_rate(same, -np.array([8, 7, 6, 5, 4, 3, 2, 1.0])) == 1


def test_equal_error_rate_of_two_normal_distributions():
    rng = np.random.default_rng(0)
    same = np.arange(40_000) % 2 == 0
    scores = rng.normal(size=40_000) + 2 * same
    assert equal_error_rate(same, scores) == pytest.approx(0.158655, abs=0.004)  # Phi(-1)


def test_detection_cost_and_the_interval_over_utterances():
    rng = np.random.default_rng(0)
    speakers = np.arange(40) // 4
    pairs = np.array([(a, b) for a in range(40) for b in range(a)])
    same = speakers[pairs[:, 0]] == speakers[pairs[:, 1]]
    perfect = detection(same, same[None] + 0.0, pairs, 40)
    assert perfect["eer"]["value"] == perfect["min_dcf"]["value"] == perfect["eer"]["high"] == 0
    # refusing all costs 0.05, which is 1 when normalised: no better answer where scores say nothing
    useless = detection(same, np.zeros((1, len(same))), pairs, 40)
    assert useless["min_dcf"]["value"] == 1
    noisy = detection(same, (same + rng.normal(size=len(same)))[None], pairs, 40)["eer"]
    assert noisy["low"] < noisy["value"] < noisy["high"]
    assert noisy["value"] == pytest.approx(0.3085, abs=0.06)  # Phi(-1/2)


def test_a_smaller_loss_decides_between_equal_figures_only():
    assert tie_broken(0.5, 1.0) > tie_broken(0.5, 2.0) > tie_broken(0.5, 1e9)
    assert tie_broken(0.501, 1e9) > tie_broken(0.5, 0.0)
