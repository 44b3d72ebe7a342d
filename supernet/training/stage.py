"""The training loop of one stage: resumable to the bit, validated, logged.

Everything random depends on (seed, stage, step) or (seed, stage, epoch). So a run that is killed at any time and
resumed from its last checkpoint is, on a CPU, equal to the bit to a run that was not killed. Several processes
(torchrun, Ray Train) share each batch and give the same run up to rounding: see `supernet.training.processes`.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from search_spaces import Feasible, RunError, Space, Subnet
from search_spaces.files import write_text
from supernet.audio import Utterance, batches
from supernet.checkpoint import save_supernet
from supernet.model import HubertSupernet
from supernet.training.batches import Batch, TrainingData, load_batch, training_batches
from supernet.training.context import Progress, RunContext, TrainingRecord
from supernet.training.goal import Goal, OwnOutput
from supernet.training.processes import processes
from supernet.training.recipe import StageRecipe
from supernet.training.state import fitting, load_state, save_state
from supernet.training.step import AUTOCAST, Comparison, Learner, optimiser_of, update
from supernet.weights import checked

__all__ = ["train_stage", "validate"]

_ADDED_LATER: Mapping[str, object] = {
    "loss": "mse",
    "in_place": 0.0,
    "ema": 0.0,
    "budgets": (),
    "disturb": 0.0,
    "optimiser": "adamw",
    "voice": 0.0,
    "kl": 0.0,
    "ce": 0.0,
}
"""Settings that the first checkpoints lack, with what they were trained with."""
_MAY_CHANGE = ("validate_every", "checkpoint_every", "batch_seconds")  # less may be all that memory holds
_ON_CPU = RunContext()
SHORT = 4.0  # seconds: dev distances are logged for shorter and longer recordings


def train_stage(
    model: HubertSupernet, recipe: StageRecipe, data: TrainingData, out: Path, run: RunContext = _ON_CPU
) -> bool:
    """Trains one stage into `out`, from its last checkpoint if there is one; True once all steps are done.

    `out` gets `state.pt` (weights, optimiser, step), `log.jsonl` (a line for each step and each validation) and, once
    all steps are done, the supernet itself. After `run.stop_after` seconds it writes a checkpoint and returns False.
    Raises `NasError` naming the batch's recordings if the loss is not finite, and `RunError` for a checkpoint of other
    settings.
    """
    group = processes()
    out.mkdir(parents=True, exist_ok=True)
    model.to(run.device).train()
    state = _State(out, recipe, model, optimiser_of(model, recipe), _running_mean(model, recipe))
    step = state.restore()
    if step != group.agreed(step):
        raise RunError(f"not every process sees the checkpoint in {out}: they need a folder that all nodes share")
    if group.first:
        _trim_log(out / "log.jsonl", step)
    learner = Learner.of(model, recipe, state.optimiser, group, run.device, data.goal)
    step = _run_steps(learner, state, step, data, run)
    finished = step == recipe.steps
    if finished and state.average is not None:
        model.load_state_dict(state.average.state_dict())
    if finished and group.first:
        save_supernet(model, out)
    group.wait()
    return finished


def _run_steps(learner: Learner, state: _State, step: int, data: TrainingData, run: RunContext) -> int:
    """Trains from `step` on, until all steps are done or the time is up; the number of steps done."""
    model, recipe, group = learner.model, learner.recipe, learner.group
    started = time.monotonic()
    with (
        _log(state.out / "log.jsonl" if group.first else Path(os.devnull), run.progress) as report,
        closing(training_batches(data, recipe, group, step)) as upcoming,
    ):
        while step < recipe.steps:
            utterances, batch = next(upcoming)
            report({"step": step, **update(learner, step, batch, utterances)})
            step += 1
            _move_mean(state.average, model, recipe, step)
            if group.first and (step % recipe.validate_every == 0 or step == recipe.steps):
                report({"step": step, **validate(state.average or model, data, recipe, run.device)})
            late = group.agreed(time.monotonic() - started > run.stop_after)
            if group.first and (step % recipe.checkpoint_every == 0 or step == recipe.steps or late):
                state.save(step)
            if late:
                break
    return step


@torch.no_grad()
def validate(model: HubertSupernet, data: TrainingData, recipe: StageRecipe, device: str = "cpu") -> TrainingRecord:
    """The distances of some subnets from the targets on `data.dev`: "dev", one number for each target, and "groups".

    A distance is the mean squared error of standardised targets over all frames that count, without a mask: predicting
    the mean gives 1.0. The subnets are those of `_landmarks`. Groups are by language and length (up to and over
    `SHORT` seconds), means over targets. `recipe` has the size of the batches and the precision. With a decoder, "kl"
    is its divergence a token.
    """
    was_training = model.training
    model.eval()
    named = _landmarks(model.space, recipe)
    errors: dict[str, list[Tensor]] = {}
    frames: dict[str, list[Tensor]] = {}
    nats, tokens = torch.zeros(len(named)), 0
    windows = [data.goal.windows[i % len(data.goal.windows)] for i in range(len(data.dev))]
    heard = [data.goal.seconds(u.seconds, window) for u, window in zip(data.dev, windows, strict=True)]
    for rows in batches(heard, recipe.batch_seconds):
        utterances, own_windows = [data.dev[row] for row in rows], [windows[row] for row in rows]
        batch = load_batch(utterances, data.goal, recipe.target_clip, data.heard, own_windows)
        own, counts, apart = _batch_errors(model, data.goal, list(named.values()), batch, recipe, device)
        if batch.tokens is not None and isinstance(data.goal, OwnOutput):
            nats, tokens = nats + apart, tokens + int(data.goal.counts(batch.tokens).sum())
        for i, row in enumerate(rows):
            group = _group(data.dev[row])
            errors.setdefault(group, []).append(own[:, :, i])
            frames.setdefault(group, []).append(counts[i])
    model.train(was_training)
    sums = {group: (torch.stack(errors[group]).sum(0), torch.stack(frames[group]).sum()) for group in sorted(errors)}
    whole = sum((e for e, _ in sums.values()), torch.zeros(())) / sum((n for _, n in sums.values()), torch.zeros(()))
    dev = {name: [round(value, 5) for value in row.tolist()] for name, row in zip(named, whole, strict=True)}
    record: TrainingRecord = {"dev": dev}
    if tokens:
        record["kl"] = {name: round(value / tokens, 5) for name, value in zip(named, nats.tolist(), strict=True)}
    if len(sums) == 1:
        return record
    means = {group: (total / count).mean(1).tolist() for group, (total, count) in sums.items()}
    groups = {group: {n: round(v, 5) for n, v in zip(named, row, strict=True)} for group, row in means.items()}
    return {**record, "groups": groups}


def _group(utterance: Utterance) -> str:
    length = f"up to {SHORT:g} s" if utterance.seconds <= SHORT else f"over {SHORT:g} s"
    return length if utterance.language is None else f"{utterance.language}, {length}"


def _landmarks(space: Space, recipe: StageRecipe) -> dict[str, Subnet]:
    """The subnets that are validated: smallest, middle and largest; with budgets, the largest uniform one in each."""
    if space.size == 1:
        return {"subnet": space.largest}
    if not recipe.budgets:
        return {"smallest": space.smallest, "middle": space.middle, "largest": space.largest}
    named: dict[str, Subnet] = {}
    for each in recipe.budgets:
        uniform = Feasible(space, each.subnets.limits, uniform=True)
        for table, _ in each.subnets.limits[:1] if uniform.count() else ():
            named |= {str(each.budget): subnet for subnet in islice(uniform.ranked(table), 1)}
    return {**named, "largest": space.largest}


def _batch_errors(
    model: HubertSupernet, goal: Goal, subnets: Sequence[Subnet], batch: Batch, recipe: StageRecipe, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Squared errors (subnets, K, B), summed over the frames that count, and the numbers of these frames (B,).

    And the decoder's divergence (subnets,), summed over tokens; 0 without one.
    """
    dtype, errors, apart = AUTOCAST[recipe.precision], [], torch.zeros(len(subnets))
    with torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not None):
        compared = Comparison.of(model, goal, batch, batch.wav.to(device))
        counted = torch.ones(compared.targets.shape[:2]) if compared.mask is None else compared.mask.cpu()
        for i, subnet in enumerate(subnets):
            predictions = torch.stack(compared.predictions(subnet), 2).float()
            if compared.tokens is not None:
                apart[i] = compared.nats(predictions[:, :, 0])[0].sum().cpu()
            error = (predictions - compared.targets).square().mean(-1).cpu().double()  # (B, T, K)
            errors.append((error * counted[..., None]).sum(1).T)
    return torch.stack(errors), counted.double().sum(1), apart


def _running_mean(model: HubertSupernet, recipe: StageRecipe) -> HubertSupernet | None:
    """A copy of the model for the running mean of its weights, if the recipe has one."""
    return copy.deepcopy(model).eval() if recipe.ema else None


@torch.no_grad()
def _move_mean(average: nn.Module | None, model: nn.Module, recipe: StageRecipe, step: int) -> None:
    """Updates the running mean after `step` steps. Early on its decay is smaller, to forget the initial weights."""
    if average is not None:
        decay = min(recipe.ema, step / (step + 10))
        for mean, value in zip(average.parameters(), model.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)


# -------------------------------------------------------------------- checkpoint and log


@dataclass(frozen=True)
class _State:
    """What the checkpoint in `out` holds, beside the step."""

    out: Path
    recipe: StageRecipe
    model: HubertSupernet
    optimiser: torch.optim.Optimizer
    average: HubertSupernet | None

    def save(self, step: int) -> None:
        state = {
            "recipe": self.recipe.to_dict(),
            "step": step,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        save_state(self.out, state)

    def restore(self) -> int:
        """Loads the checkpoint; the number of steps done, 0 without a checkpoint.

        Raises `RunError` if the checkpoint has other settings.
        """
        state = load_state(self.out, "recipe")
        if state is None:
            return 0
        self._check_recipe({**_ADDED_LATER, **state["recipe"]})
        with fitting(self.out):
            if state["step"] > self.recipe.steps:
                raise ValueError(f"it has done {state['step']} of {self.recipe.steps} steps")
            self.model.load_state_dict(checked(self.out, state["model"], self.model.state_dict()))
            self.optimiser.load_state_dict(state["optimiser"])
            if self.average is not None:
                self.average.load_state_dict(checked(self.out, state["average"], self.average.state_dict()))
        return int(state["step"])

    def _check_recipe(self, stored: Mapping[str, object]) -> None:
        for key, value in self.recipe.to_dict().items():
            before = stored.get(key)
            if isinstance(before, list):  # tuples of some checkpoints
                before = tuple(before)
            if before != value and key not in _MAY_CHANGE:
                raise RunError(
                    f"{self.out} was started with {key}={before}, now {key}={value}: "
                    "use another output folder, or the earlier value"
                )


def _trim_log(log: Path, step: int) -> None:
    """Removes lines of steps that are not in the checkpoint: these steps are done again."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
        record = _record(line)
        if record is None or record["step"] >= step + ("dev" in record):
            break
        kept.append(line)
    write_text(log, "".join(kept))


def _record(line: str) -> dict[str, int] | None:
    """The record in a line; None for a torn or foreign one."""
    try:
        record = json.loads(line) if line.endswith("\n") else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


@contextmanager
def _log(file: Path, progress: Progress) -> Iterator[Progress]:
    """Yields a function that appends a record to `file` and passes it on to `progress`."""
    with file.open("a", encoding="utf-8") as log:

        def report(record: TrainingRecord) -> None:
            log.write(json.dumps(record) + "\n")
            log.flush()
            progress(record)

        yield report
