"""Heads on a frozen upstream, from a manifest to figures on test."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from evaluators.tasks.data import read_dataset
from evaluators.tasks.features import HiddenStates, Upstream
from evaluators.tasks.fit import fit_seeds
from evaluators.tasks.heads import layer_weights
from evaluators.tasks.settings import FitSettings
from evaluators.tasks.task import Built, TaskContext, get_task

__all__ = ["evaluate"]


def evaluate(
    upstream: Upstream,
    task: str,
    manifest: Path | str,
    settings: FitSettings | None = None,
    device: str = "cpu",
    cache: Path | None = None,
    skip_missing: bool = False,
    alphabet: str | None = None,
    hidden: int = 0,
    beam: int = 1,
    log: Callable[[str], None] = lambda message: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, object]:
    """Figures of heads on the frozen `upstream`, on the test split of `manifest` (or a corpus's folder).

    `cache` keeps hidden states for the next task. `skip_missing` leaves recordings without the label out. `hidden`:
    units of asr's BLSTM (each way) or of diarization's LSTM; 0 is a linear head, or 512. `beam`: of asr's decoder; 1 is
    greedy. `alphabet`: letters that count in asr; others become spaces. `progress(done, total)` counts hidden states.

    The result is plain and goes into JSON: each metric with its 95 % interval (bootstrap over test utterances) and
    its value for each seed.
    """
    began, chosen, settings = time.monotonic(), get_task(task), settings or FitSettings()
    chosen.check_options(hidden=hidden, beam=beam, alphabet=alphabet)
    data = read_dataset(manifest, chosen.label, skip_missing, chosen.kind == "verification")
    with ExitStack() as stack:
        folder = cache or Path(stack.enter_context(TemporaryDirectory(prefix="nas-states-")))
        states = HiddenStates(upstream, chosen.pooled, folder)
        built = chosen.make(
            TaskContext(
                chosen,
                data,
                manifest,
                states,
                lambda checked: states.fill(checked.examples, progress),
                device,
                hidden,
                beam,
                alphabet,
            )
        )
        heads, trained = fit_seeds(built.problem, settings, log)
        results = built.problem.test(heads)
    return {
        "task": task,
        "metric": chosen.metric,
        "higher_is_better": chosen.higher_is_better,
        "results": results,
        "upstream": upstream.about,
        "data": _data(built, manifest),
        "head": {**trained, "layer_weights": [layer_weights(head) for head in heads]},
        "seconds": round(time.monotonic() - began, 1),
        "intervals": "95 %, bootstrap over test utterances",
        "chance": built.chance,
    }


def _data(built: Built, manifest: Path | str) -> dict[str, object]:
    data = built.data
    sizes = {part: len(examples) for part, examples in data.parts.items()}
    return {"name": data.name, "path": str(manifest), **sizes, "left_out": list(data.left_out), **built.about}
