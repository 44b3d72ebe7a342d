"""Tasks, and the table of their names. Importing this imports no torch.


`Task.build` names the function that makes the problem for a task's heads: `build(context) -> Built`. One file and one
line of `TASKS` add one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from evaluators.tasks.problem import Problem
from search_spaces import NasError
from search_spaces.registry import Registry

if TYPE_CHECKING:
    from evaluators.tasks.data import Dataset
    from evaluators.tasks.features import HiddenStates

__all__ = ["Built", "TASKS", "Task", "TaskContext", "get_task"]

OPTIONS = {"hidden": 0, "beam": 1, "alphabet": None}
"""The options of tasks, with their defaults."""


@dataclass(frozen=True)
class TaskContext:
    """The input of a task's `build`: labelled speech, and the frozen upstream's hidden states of it.

    `fill` computes the hidden states of a dataset; it is called once the labels have been checked.
    """

    task: Task
    data: Dataset
    manifest: Path | str
    states: HiddenStates
    fill: Callable[[Dataset], None]
    device: str = "cpu"
    hidden: int = 0
    beam: int = 1
    alphabet: str | None = None


@dataclass(frozen=True)
class Built:
    """A problem, its data as the task reads them, and facts about both for the results."""

    problem: Problem
    data: Dataset
    about: Mapping[str, object]
    chance: float | None = None


@dataclass(frozen=True)
class Task:
    """The question that is asked about a recording.

    `kind`: classes, verification, text, phones or turns. `label`: the manifest's key. `metric`: the figure that counts.
    `options`: those of `OPTIONS` that it takes. `instead`: the task to fine-tune on, if not on this one.
    """

    kind: str
    label: str
    metric: str
    higher_is_better: bool
    build: str
    options: tuple[str, ...] = field(default=())
    instead: str | None = None

    @property
    def pooled(self) -> bool:
        """Whether heads see the mean of the hidden states over time."""
        return self.kind in ("classes", "verification")

    def make(self, context: TaskContext) -> Built:
        """The problem of this task."""
        module, _, name = self.build.partition(":")
        build = cast(Callable[[TaskContext], Built], getattr(import_module(module), name))
        return build(context)

    def check_options(self, **options: object) -> None:
        """Raises `NasError` for an option that has no effect on this task."""
        for name, value in options.items():
            if name not in self.options and value != OPTIONS[name]:
                raise NasError(f"--{name} has no effect on tasks of {self.label} with the metric {self.metric}")


_CLASSES = "evaluators.tasks.utterance:build_classification"
_TEXT = "evaluators.tasks.transcription:build_transcription"
SPEAKER = Task("classes", "speaker", "accuracy", True, _CLASSES)
LANGUAGE = Task("classes", "language", "accuracy", True, _CLASSES)
KEYWORD = Task("classes", "keyword", "accuracy", True, _CLASSES)
INTENT = Task("classes", "intent", "accuracy", True, _CLASSES)
EMOTION = Task("classes", "emotion", "accuracy", True, _CLASSES)
VERIFICATION = Task(
    "verification", "speaker", "eer", False, "evaluators.tasks.utterance:build_verification", instead="speaker"
)
ASR = Task("text", "text", "cer", False, _TEXT, ("hidden", "beam", "alphabet"))
PHONES = Task("phones", "phones", "per", False, _TEXT, ("hidden", "beam"), instead="asr")
DIARIZATION = Task(
    "turns", "turns", "der", False, "evaluators.tasks.diarization:build_diarization", ("hidden",), instead="speaker"
)

TASKS = Registry(
    "task",
    "lighthubert_nas.tasks",
    {
        name: f"evaluators.tasks.task:{name.upper()}"
        for name in (
            "speaker", "language", "keyword", "intent", "emotion", "verification", "asr", "phones", "diarization",
        )
    },
)  # fmt: skip


def get_task(name: str) -> Task:
    """The task of this name. Raises `NasError` listing the known ones."""
    return cast(Task, TASKS.load(name))
