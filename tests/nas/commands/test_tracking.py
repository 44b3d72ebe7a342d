"""`--log-to`: real trackers, read back by their own readers; a run that is killed and resumed has each value once."""

import json

import pytest

from nas import Evaluation
from nas.commands import tracking
from nas.commands.tracking import Tracking, TrackingSettings
from search_spaces import NasError, get_space

SPACE = get_space("hubert-tiny")


def steps(first, last):
    return [{"step": n, "loss": 2.0 - n / 10, "grad_norm": 1.0} for n in range(first, last)]


def validation(step):
    return {"step": step, "dev": {"largest": [0.5, 0.7]}, "groups": {"en, up to 4 s": {"largest": 0.6}}}


def run(names, folder, *stages):
    """Trains as a training does: each stage is announced, and its records go to its log and to the trackers."""
    with Tracking(names, folder, {"seed": 0}) as tracked:
        report = tracked.beside(lambda record: None)
        for number, (total, kept, records) in enumerate(stages, 1):
            place = folder / f"stage{number}"
            place.mkdir(parents=True, exist_ok=True)
            report({"stage": number, "steps": total, "folder": str(place)})
            lines = (place / "log.jsonl").read_text().splitlines(True)[:kept] if kept else []
            (place / "log.jsonl").write_text("".join(lines))
            with (place / "log.jsonl").open("a") as log:
                for record in records:
                    log.write(json.dumps(record) + "\n")
                    report(record)


def interrupted(names, folder):
    """A training of 4 + 6 steps whose second stage ends after 5 steps, is resumed from step 3, and finishes."""
    first = (4, 0, [*steps(0, 4), validation(4)])
    run(names, folder, first, (6, 0, steps(0, 5)))
    run(names, folder, (4, 5, []), (6, 3, [*steps(3, 6), validation(6)]))


CURVES = {
    "stage1/loss": [(1, 2.0), (2, 1.9), (3, 1.8), (4, 1.7)],
    "stage1/dev/largest": [(4, 0.6)],
    "stage2/loss": [(5, 2.0), (6, 1.9), (7, 1.8), (8, 1.7), (9, 1.6), (10, 1.5)],
    "stage2/dev/largest": [(10, 0.6)],
    "stage2/dev en_ up to 4 s/largest": [(10, 0.6)],
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_each_value_once(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    interrupted(["tensorboard"], tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name, curve in CURVES.items():
        assert [(each.step, pytest.approx(each.value)) for each in events.Scalars(name)] == curve


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_each_value_once(tmp_path, monkeypatch):
    client = pytest.importorskip("mlflow.tracking").MlflowClient
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    interrupted(["mlflow"], tmp_path / "run")
    name = json.loads((tmp_path / "run" / "trackers.json").read_text())["mlflow"]
    for key, curve in CURVES.items():
        assert [(each.step, each.value) for each in client().get_metric_history(name, key)] == curve
    assert client().get_run(name).info.status == "FINISHED"


@pytest.mark.filterwarnings("ignore")
def test_wandb_continues_its_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    interrupted(["wandb"], tmp_path)
    name = json.loads((tmp_path / "trackers.json").read_text())["wandb"]
    files = [len(list(folder.glob(f"run-{name}.wandb"))) for folder in (tmp_path / "wandb").glob("offline-run-*")]
    assert files == [1, 1]


class Lists:
    """A tracker that keeps what it is given, and fails at the x of `fails`."""

    given, fails = [], None

    def __init__(self, folder, ids, settings):
        self.last = max((x for x, _ in self.given), default=0)

    def log(self, x, values):
        if x == self.fails:
            raise ConnectionError("the server has gone\nfor good")
        self.given.append((x, values))

    def close(self):
        self.given.append((0, "closed"))


@pytest.fixture
def lists(monkeypatch):
    kind = type("_Lists", (Lists,), {"given": []})
    monkeypatch.setattr(tracking, "TRACKERS", {"lists": kind})
    return kind


def evaluations(*scores):
    subnet = SPACE.smallest
    kinds = [("failed", "out of memory") if score is None else ("ok", None) for score in scores]
    return [Evaluation(i, subnet, {"params": 5}, s, *k) for i, (s, k) in enumerate(zip(scores, kinds))]


def test_a_search_logs_costs_scores_and_the_best(lists, tmp_path):
    with Tracking(["lists"], tmp_path, {}) as tracked:
        tracked.evaluations(evaluations(0.5), maximize=False)
        tracked.evaluations(evaluations(0.5, None, 0.7), maximize=False)
    assert lists.given == [
        (1, {"cost/params": 5.0, "score": 0.5, "best score": 0.5}),
        (2, {"cost/params": 5.0}),
        (3, {"cost/params": 5.0, "score": 0.7, "best score": 0.5}),
        (0, "closed"),
    ]


def test_a_tracker_that_fails_ends_with_a_warning_and_gets_the_rest_next_time(lists, tmp_path):
    lists.fails = 2
    with (
        pytest.warns(UserWarning, match=r"--log-to lists ended: the server has gone; resume the run to continue"),
        Tracking(["lists"], tmp_path, {}) as tracked,
    ):
        tracked.evaluations(evaluations(0.5, 0.6, 0.7), maximize=True)
    lists.fails = None
    with Tracking(["lists"], tmp_path, {}) as tracked:
        tracked.evaluations(evaluations(0.5, 0.6, 0.7), maximize=True)
    assert [x for x, values in lists.given if values != "closed"] == [1, 2, 3]


def test_other_processes_than_the_first_log_nothing(lists, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    run(["lists"], tmp_path, (2, 0, steps(0, 2)))
    assert lists.given == []


def test_a_tracker_that_is_not_there_is_refused_at_once(monkeypatch):
    with pytest.raises(NasError, match="unknown --log-to 'paper'; known: tensorboard, wandb, mlflow"):
        TrackingSettings(("paper",))
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(NasError, match=r"--log-to wandb needs wandb: pip install 'lighthubert-nas\[wandb\]'"):
        TrackingSettings(("wandb",))
