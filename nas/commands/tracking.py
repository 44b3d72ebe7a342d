"""`--log-to`: the curves of a search or training in TensorBoard, W&B or MLflow, beside the files of the run.

The ledger and the log.jsonl of a training are the truth. What a tracker lacks of them is logged when it is opened, and
nothing is logged twice: the x of a value, the number of evaluations or of training steps so far, only grows. So a run
that was killed and is resumed continues its curves.
"""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from nas.commands.console import read_json
from search_spaces import NasError
from search_spaces.files import read_text, write_json
from search_spaces.settings import Settings, option
from search_spaces.text import first_line
from search_spaces.types import JsonMapping

if TYPE_CHECKING:
    from nas import Evaluation
    from supernet.training.context import Progress, TrainingRecord

__all__ = ["TRACKERS", "Tracking", "TrackingSettings"]

PROJECT = "lighthubert-nas"
_IDS = "trackers.json"


class Tracker(Protocol):
    """`last`: the greatest x that it has values of, 0 if it has none."""

    last: int

    def __init__(self, folder: Path, ids: dict[str, str], settings: JsonMapping) -> None:
        """Opens the tracker of the run in `folder`; `ids`, by tracker, is kept for the next time."""

    def log(self, x: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    """Event files in `folder/tensorboard`, written anew each time: readers show events of earlier files twice."""

    def __init__(self, folder: Path, ids: dict[str, str], settings: JsonMapping) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = folder / "tensorboard"
        for file in place.glob("events.out.tfevents.*"):
            file.unlink()
        self.last = 0
        self._writer: Any = SummaryWriter(place, flush_secs=10)

    def log(self, x: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, x)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A run of the project lighthubert-nas. Offline, each start writes all of it: the newest folder is to be synced."""

    def __init__(self, folder: Path, ids: dict[str, str], settings: JsonMapping) -> None:
        import wandb

        name = ids.setdefault("wandb", uuid4().hex[:8])
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=name,
            resume="allow",
            name=folder.name,
            dir=str(folder),
            config=dict(settings),
            settings=wandb.Settings(silent=True),
        )
        self.last = self._run.step - 1

    def log(self, x: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=x, commit=True)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    """A run of the experiment MLFLOW_EXPERIMENT_NAME, by default lighthubert-nas, at MLFLOW_TRACKING_URI."""

    def __init__(self, folder: Path, ids: dict[str, str], settings: JsonMapping) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient()
        if "mlflow" in ids:
            self._client.update_run(ids["mlflow"], status="RUNNING")
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            known = self._client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self._client.create_experiment(name)
            ids["mlflow"] = self._client.create_run(experiment, run_name=folder.name).info.run_id
            params = [Param(key, str(value)[:500]) for key, value in settings.items()]
            self._client.log_batch(ids["mlflow"], params=params)
        self._id = ids["mlflow"]
        names = self._client.get_run(self._id).data.metrics
        steps = (each.step for name in names for each in self._client.get_metric_history(self._id, name))
        self.last = max(steps, default=0)

    def log(self, x: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._id, [Metric(name, value, now, x) for name, value in values.items()])

    def close(self) -> None:
        self._client.set_terminated(self._id)


TRACKERS: Mapping[str, type[Tracker]] = {"tensorboard": _TensorBoard, "wandb": _Wandb, "mlflow": _Mlflow}
"""By the name of the package, which is also that of the extra."""


@dataclass(frozen=True)
class TrackingSettings(Settings):
    """Where the curves go; they do not change the result. Raises `NasError` for a tracker that is not installed."""

    log_to: tuple[str, ...] = option(
        (), "Also log the curves there; repeatable; give it again to resume.", names=lambda: TRACKERS, group="Output"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.log_to:
            if name not in TRACKERS:
                raise NasError(f"unknown --log-to '{name}'; known: {', '.join(TRACKERS)}")
            spec = find_spec(name)
            if spec is None or spec.origin is None:  # wandb leaves folders of its name behind, which can be imported
                raise NasError(f"--log-to {name} needs {name}: pip install '{PROJECT}[{name}]'")


class Tracking:
    """`with Tracking(names, folder, settings) as tracking`: the open trackers of the run in `folder`.

    They are opened with the first values, when the run has made its folder. One that fails is left alone with a
    warning: the next time it gets what it lacks.
    """

    def __init__(self, names: Sequence[str], folder: Path, settings: JsonMapping) -> None:
        self._names, self._folder, self._settings = names, folder, settings
        self._open: dict[str, Tracker] | None = None
        self._x, self._values = 0, dict[str, float]()
        self._evaluations, self._best = 0, None  # type: int, float | None
        self._stage, self._before, self._steps = "", 0, 0

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        for name in list(self._open or {}):
            self._attempt(name, "close")

    def evaluations(self, evaluations: Sequence[Evaluation], maximize: bool) -> None:
        """Takes all evaluations of a search so far."""
        for evaluation in evaluations[self._evaluations :] if self._names else ():
            values = {f"cost/{name}": float(value) for name, value in evaluation.costs.items()}
            if evaluation.ok and evaluation.score is not None:
                better = max if maximize else min
                self._best = evaluation.score if self._best is None else better(self._best, evaluation.score)
                values |= {"score": evaluation.score, "best score": self._best}
            self._log(evaluation.index + 1, values)
        self._evaluations = len(evaluations)

    def beside(self, progress: Progress) -> Progress:
        """`progress` and the trackers, for the records of a training. Of several processes only the first logs."""
        if not self._names or os.environ.get("RANK", "0") != "0":
            return progress

        def both(record: TrainingRecord) -> None:
            progress(record)
            self._training(record)

        return both

    def _training(self, record: TrainingRecord) -> None:
        if "steps" in record:
            self._before, self._steps = self._before + self._steps, record["steps"]
            folder = Path(record["folder"])
            self._stage = folder.relative_to(self._folder).as_posix()
            for earlier in _records(folder / "log.jsonl"):
                self._training(earlier)
        elif "step" in record:
            done = record["step"] + ("dev" not in record)  # a step is numbered from 0, a validation follows its step
            self._log(self._before + done, {f"{self._stage}/{key}": value for key, value in _curves(record)})

    def _log(self, x: int, values: Mapping[str, float]) -> None:
        """Values of one x may come in several parts. Those of a step that is done again are dropped, and come again."""
        if x > self._x:
            self._flush()
        elif x < self._x:
            self._values = {}
        self._x = x
        self._values |= {re.sub(r"[^\w./ -]", "_", name): value for name, value in values.items()}

    def _flush(self) -> None:
        if not self._values:
            return
        if self._open is None:
            self._open = self._opened()
        for name in list(self._open):
            if self._x > self._open[name].last:
                self._attempt(name, "log", self._x, self._values)
        self._values = {}

    def _opened(self) -> dict[str, Tracker]:
        file = self._folder / _IDS
        known = read_json(file, "") if file.exists() else {}
        ids = {name: each for name, each in known.items() if isinstance(each, str)}
        trackers = {}
        for name in self._names:
            try:
                trackers[name] = TRACKERS[name](self._folder, ids, self._settings)
            except Exception as error:  # each tracker has errors of its own
                raise NasError(f"--log-to {name}: {first_line(error)}") from None
        if ids:
            write_json(file, ids)
        return trackers

    def _attempt(self, name: str, method: str, *arguments: Any) -> None:
        assert self._open is not None
        try:
            getattr(self._open[name], method)(*arguments)
            if arguments:
                self._open[name].last = arguments[0]
        except Exception as error:  # each tracker has errors of its own; a run does not end because of them
            warnings.warn(f"--log-to {name} ended: {first_line(error)}; resume the run to continue", stacklevel=2)
            del self._open[name]


def _curves(record: TrainingRecord) -> Iterator[tuple[str, float]]:
    for name, distances in record.get("dev", {}).items():
        yield f"dev/{name}", sum(distances) / len(distances)
    for name, nats in record.get("kl", {}).items():
        yield f"dev kl/{name}", nats
    for group, means in record.get("groups", {}).items():
        for name, mean in means.items():
            yield f"dev {group}/{name}", mean
    if "loss" in record:
        yield "loss", record["loss"]
        yield "grad_norm", record["grad_norm"]


def _records(log: Path) -> Iterator[TrainingRecord]:
    """The records of a log, up to a torn one."""
    if not log.exists():
        return
    for line in read_text(log).split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
            return
        yield record
