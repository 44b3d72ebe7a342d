"""The predictor on made-up latencies: no clock is read here."""

import csv

import numpy as np
import pytest

from evaluators.costs.latency.model import ColumnFeatures, LatencyModel, SpaceFeatures, accuracy, fit_csv
from search_spaces import NasError
from tests.evaluators.helpers import SPACE, made_up_ms, timings


@pytest.fixture(scope="module")
def model():
    shown = timings(100)
    return LatencyModel(SpaceFeatures(SPACE), shown.subnets, shown.ms)


def fresh(n=200, seed=7):
    rng = np.random.default_rng(seed)
    subnets = [SPACE.sample(rng) for _ in range(n)]
    return subnets, np.array([made_up_ms(s) for s in subnets]) * np.exp(0.004 * rng.normal(size=n))


def test_a_hundred_measurements_predict_the_rest(model):
    subnets, ms = fresh()
    found = accuracy(model.predict(subnets), ms, model.margin())
    assert found["mape"] < 0.01
    assert found["tau"] > 0.9


def test_the_bound_holds_for_99_of_100_and_is_no_wider_than_needed():
    over, margins = [], []
    for seed in range(10):
        shown = timings(100, seed=seed)
        model = LatencyModel(SpaceFeatures(SPACE), shown.subnets, shown.ms)
        subnets, ms = fresh(200, 100 + seed)
        over.append(accuracy(model.predict(subnets), ms, model.margin())["over"])
        margins.append(model.margin())
    assert np.mean(over) <= 0.01
    assert np.mean(margins) < 0.03
    assert model.confidence(0.99) == 0.99
    assert model.confidence(0.999) == pytest.approx(100 / 101)


def test_the_table_is_the_prediction_for_every_subnet(model):
    subnets, _ = fresh(50)
    table = model.table(margin=0.02)
    assert [table.of(s) for s in subnets] == pytest.approx((1.02 * model.predict(subnets)).tolist())
    assert table.unit == "ms"


def test_errors_are_those_of_a_model_that_was_not_shown_the_subnet(model):
    shown = timings(100)
    left = [i for i in range(100) if i % 10 != 7]
    other = LatencyModel(SpaceFeatures(SPACE), [shown.subnets[i] for i in left], shown.ms[left])
    expected = shown.ms[17] / other.predict([shown.subnets[17]])[0] - 1
    assert model.errors[17] == pytest.approx(expected, abs=1e-3)  # scaled by its own largest features


def test_rows_of_any_space_are_learned_from_their_columns():
    rng = np.random.default_rng(0)
    columns = ["embed", *(f"width_{i}" for i in range(1, 7))]
    rows = np.column_stack([rng.choice([512, 640], 150), rng.choice([1024.0, 2048, 3072], (150, 6))])
    rows[rng.random((150, 7)) < np.r_[0, 0, 0, 0, 0, 0.5, 0.5]] = np.nan  # shallower networks
    ms = 10 + rows[:, 0] / 100 + np.nansum(2 + rows[:, :1] * rows[:, 1:] / 4e5, axis=1)
    model = LatencyModel(ColumnFeatures(columns, rows), rows[:100], ms[:100])
    assert accuracy(model.predict(rows[100:]), ms[100:], 0)["mape"] < 0.005


@pytest.mark.parametrize("space", [None, SPACE])
def test_a_csv_is_fitted(space, tmp_path):
    shown = timings(60)
    columns = ["embed_dim", *(f"heads_{i}" for i in range(1, 13)), *(f"ffn_ratio_{i}" for i in range(1, 13))]
    with (tmp_path / "x.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "latency_ms"])
        for subnet, ms in zip(shown.subnets, shown.ms, strict=True):
            gap = [""] * (12 - subnet.depth)
            writer.writerow([subnet.embed_dim, *subnet.heads, *gap, *subnet.ffn_ratios, *gap, ms])
    found = fit_csv(tmp_path / "x.csv", space)
    assert found["rows"] == 60
    assert found["mape"] < 0.05


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "needs a column latency_ms; it has a, b"),
        ("a,latency_ms\n", "one line a measurement"),
        ("a,latency_ms\n1,fast\n", "line 2 .* must be numbers"),
        ("a,latency_ms\n1,2,3\n", "line 2 .* has 3 cells; 2 are needed"),
        ("a,latency_ms\n1,2\n", "at least 8 measurements"),
        ("a,latency_ms\n" + "1,-2\n" * 20, "positive, finite"),
    ],
)
def test_a_bad_csv_is_refused_in_one_line(text, says, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(NasError, match=says):
        fit_csv(tmp_path / "x.csv")
    with pytest.raises(NasError, match="cannot read"):
        fit_csv(tmp_path / "y.csv")
