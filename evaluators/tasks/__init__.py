"""Downstream tasks in the manner of SUPERB: a frozen upstream, a weighted sum of its hidden states, a small head.

data.py           labelled speech in the layouts people have
features.py       frozen upstreams and their hidden states, computed once
heads.py          the heads
utterance.py      classes and speaker verification
transcription.py  CTC
diarization.py    who speaks when
fit.py            training heads: early stopping, learning rates, seeds
metrics.py        what predictions are worth, with intervals
finetune.py       a whole subnet trained on a task
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from search_spaces import NasError

if TYPE_CHECKING:
    from evaluators.tasks.data import Dataset
    from evaluators.tasks.features import Upstream
    from evaluators.tasks.fit import FitSettings

__all__ = ["TASKS", "Task", "evaluate", "get_task"]


@dataclass(frozen=True)
class Task:
    """What is asked of a recording.

    `kind`: classes, verification, text, phones or turns. `label`: what is read of it. `metric`: the figure that counts.
    """

    kind: str
    label: str
    metric: str
    higher_is_better: bool


TASKS: dict[str, Task] = {
    "speaker": Task("classes", "speaker", "accuracy", True),
    "language": Task("classes", "language", "accuracy", True),
    "keyword": Task("classes", "keyword", "accuracy", True),
    "intent": Task("classes", "intent", "accuracy", True),
    "emotion": Task("classes", "emotion", "accuracy", True),
    "verification": Task("verification", "speaker", "eer", False),
    "asr": Task("text", "text", "cer", False),
    "phones": Task("phones", "phones", "per", False),
    "diarization": Task("turns", "turns", "der", False),
}


def get_task(name: str) -> Task:
    """The task of this name. Raises `NasError` listing the known ones."""
    if name not in TASKS:
        raise NasError(f"unknown task '{name}'; known: {', '.join(TASKS)}")
    return TASKS[name]


def evaluate(
    upstream: Upstream,
    task: str,
    manifest: Path | str,
    recipe: FitSettings | None = None,
    device: str = "cpu",
    cache: Path | None = None,
    skip_missing: bool = False,
    alphabet: str | None = None,
    hidden: int = 0,
    beam: int = 1,
    say: Callable[[str], None] = lambda said: None,
    done: Callable[[int, int], None] = lambda count, of: None,
) -> dict[str, Any]:
    """What heads on the frozen `upstream` reach on the test split of `manifest` (or a corpus's folder).

    The result is plain and goes into JSON: each metric with its 95 % interval (bootstrap over test utterances) and
    its value for each seed. `done(count, of)` tells how far the hidden states are, `say` what happens on the way.
    """
    from evaluators.tasks.data import check_classes, check_phones, check_text, check_turns, read_dataset
    from evaluators.tasks.diarization import Diarization
    from evaluators.tasks.features import HiddenStates
    from evaluators.tasks.fit import FitSettings, fit_seeds
    from evaluators.tasks.heads import layer_weights
    from evaluators.tasks.transcription import Transcription
    from evaluators.tasks.utterance import Classification, Verification

    began, chosen, recipe = time.monotonic(), get_task(task), recipe or FitSettings()
    data: Dataset = read_dataset(manifest, chosen.label, skip_missing, chosen.kind == "verification")
    with ExitStack() as stack:
        folder = cache or Path(stack.enter_context(TemporaryDirectory(prefix="nas-states-")))
        transcribed = chosen.kind in ("text", "phones")
        states = HiddenStates(upstream, chosen.kind in ("classes", "verification"), folder)
        problem: Classification | Diarization | Transcription
        if transcribed:
            names: tuple[str, ...] = ()
            if chosen.kind == "phones":
                data, alphabet, names = check_phones(manifest, data)
            else:
                data, alphabet = check_text(manifest, data, alphabet)
            states.fill(data.examples, done)
            problem = Transcription(data, alphabet, states, device, hidden, beam, names)
            head = f"BLSTM of {hidden}" if hidden else "linear"
            about: dict[str, Any] = {
                "alphabet": names or alphabet,
                "head": head,
                "beam": beam,
                "too_long": problem.too_long,
            }
        elif chosen.kind == "turns":
            turns, speakers = check_turns(manifest, data)
            states.fill(data.examples, done)
            problem = Diarization(data, turns, speakers, states, device, hidden)
            about = {"speakers": speakers, "head": f"LSTM of {problem.hidden}"}
        else:
            open_set = chosen.kind == "verification"
            classes = check_classes(manifest, data, chosen.label, open_set)
            states.fill(data.examples, done)
            problem = (Verification if open_set else Classification)(data, classes, states, device)
            about = {"classes": len(classes)}
        heads, trained = fit_seeds(problem, recipe, say)
        results = problem.test(heads)
    return {
        "task": task,
        "metric": chosen.metric,
        "higher_is_better": chosen.higher_is_better,
        "results": results,
        "upstream": upstream.about,
        "data": {
            "name": data.name,
            "path": str(manifest),
            **{part: len(examples) for part, examples in data.parts.items()},
            "left_out": list(data.left_out),
            **about,
        },
        "head": {**trained, "layer_weights": [layer_weights(head) for head in heads]},
        "seconds": round(time.monotonic() - began, 1),
        "intervals": "95 %, bootstrap over test utterances",
        "chance": None if chosen.kind != "classes" else round(1 / about["classes"], 4),
    }
