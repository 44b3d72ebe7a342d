"""Downstream tasks in the manner of SUPERB: a frozen upstream, a weighted sum of its hidden states, a small head.

task.py           what a task is, and `TASKS`
problem.py        what heads are trained on
settings.py       how heads and subnets are trained
evaluation.py     evaluate(): heads on a frozen upstream, from a manifest to figures on test
data.py           labelled speech in the layouts people have
features.py       frozen upstreams and their hidden states, computed once
heads.py          the heads
utterance.py      classes and speaker verification
transcription.py  CTC
diarization.py    who speaks when
fit.py            training heads: early stopping, learning rates, seeds
metrics.py        figures on test, with intervals
finetune.py       a whole subnet trained on a task

Importing this imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluators.tasks.settings import FinetuneSettings, FitSettings
from evaluators.tasks.task import TASKS, Task, get_task

if TYPE_CHECKING:
    from evaluators.tasks.evaluation import evaluate

__all__ = ["FinetuneSettings", "FitSettings", "TASKS", "Task", "evaluate", "get_task"]


def __getattr__(name: str) -> object:
    if name == "evaluate":
        from evaluators.tasks.evaluation import evaluate

        return evaluate
    raise AttributeError(f"module 'evaluators.tasks' has no attribute {name!r}")
