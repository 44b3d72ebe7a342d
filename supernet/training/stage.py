"""One stage of a training: steps, validations and checkpoints, resumable to the bit.

Everything random comes from (seed, stage, step) or (seed, epoch), so that a run that is killed at any moment and
resumed from its last checkpoint is, on a CPU, bit for bit the run that was not killed. Several processes (torchrun, Ray
Train) share each batch, and give the same run up to rounding: see `supernet.training.processes`.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from search_spaces import AdditiveTable, Feasible, NasError, RunError, Space
from search_spaces.files import write_text
from supernet.audio import Utterance, batches
from supernet.checkpoint import save_supernet
from supernet.model import HubertSupernet
from supernet.training.batches import Batch, TrainingSpeech, batch_plan, prefetched
from supernet.training.losses import distillation_loss
from supernet.training.processes import processes
from supernet.training.recipe import StageRecipe
from supernet.training.state import load_state, save_state
from supernet.training.step import DTYPES, Trainer, optimiser_of

__all__ = ["Progress", "subnets_within", "train_stage", "validate"]

Progress = Callable[[dict[str, object]], None]


def train_stage(
    model: HubertSupernet,
    recipe: StageRecipe,
    speech: TrainingSpeech,
    out: Path,
    device: str = "cpu",
    progress: Progress = lambda record: None,
    stop_after: float = math.inf,
    tables: Mapping[str, AdditiveTable] | None = None,
) -> bool:
    """Trains one stage into `out`, from its last checkpoint on; True when all steps are done.

    `out` gets `state.pt` (weights, optimiser, step), `log.jsonl` (one line a step or validation) and, when
    finished, the supernet itself. After `stop_after` seconds it writes a checkpoint and returns False. `tables`: the
    costs that the recipe's budgets are on.
    Raises `NasError` naming the batch's recordings if the loss is not finite.
    """
    group = processes()
    out.mkdir(parents=True, exist_ok=True)
    model.to(device).train()
    within = subnets_within(model.space, recipe, tables or {})
    trainer = Trainer(model, recipe, optimiser_of(model, recipe), group, device, within)
    average = copy.deepcopy(model).eval() if recipe.ema else None
    step = _restore(out, trainer, average)
    if step != group.agreed(step):
        raise RunError(f"not every process sees the checkpoint in {out}: they need a folder that all nodes share")
    if group.first:
        _trim_log(out / "log.jsonl", step)
    step = _run(trainer, speech, out, step, average, progress, stop_after)
    if step == recipe.steps and average is not None:
        model.load_state_dict(average.state_dict())
    if group.first and step == recipe.steps:
        save_supernet(model, out)
    group.wait()
    return step == recipe.steps


def subnets_within(space: Space, recipe: StageRecipe, tables: Mapping[str, AdditiveTable]) -> list[Feasible]:
    """The subnets that keep each of the recipe's budgets, one set a budget.

    Raises `NasError` for a budget on another cost, and `InfeasibleError` if nothing keeps it.
    """
    within = []
    for budget in recipe.budgets:
        if budget.cost not in tables:
            raise NasError(
                f"unknown cost '{budget.cost}' in budget '{budget}'; known here: {', '.join(tables) or 'none'}"
            )
        within.append(Feasible(space, [(tables[budget.cost], budget.limit)]))
        within[-1].cheapest(tables[budget.cost])  # raises if nothing fits
    return within


def _run(
    trainer: Trainer,
    speech: TrainingSpeech,
    out: Path,
    step: int,
    average: HubertSupernet | None,
    progress: Progress,
    stop_after: float,
) -> int:
    """The steps from `step` on; the number of the step it came to."""
    recipe, group, device, model = trainer.recipe, trainer.group, trainer.device, trainer.model
    data = _batches(trainer, speech, step)
    started = time.monotonic()
    with (out / "log.jsonl" if group.first else Path(os.devnull)).open("a", encoding="utf-8") as log:

        def write(record: dict[str, object]) -> None:
            log.write(json.dumps(record) + "\n")
            log.flush()
            progress(record)

        while step < recipe.steps:
            rows, batch = next(data)
            write({"step": step, **trainer.step(step, batch, len(rows))})
            step += 1
            if average is not None:
                _follow(average, model, recipe, step)
            if group.first and (step % recipe.validate_every == 0 or step == recipe.steps):
                write({"step": step, "dev": validate(average or model, speech.dev, speech, recipe, device)})
            late = group.agreed(time.monotonic() - started > stop_after)
            if group.first and (step % recipe.checkpoint_every == 0 or step == recipe.steps or late):
                _checkpoint(out, trainer, step, average)
            if late:
                break
    data.close()
    return step


def _batches(trainer: Trainer, speech: TrainingSpeech, step: int):  # type: ignore[no-untyped-def]
    """This process's share of the batches from `step` on."""
    recipe, group = trainer.recipe, trainer.group
    plan = batch_plan([utterance.seconds for utterance in speech.train], recipe)
    for _ in range(step):
        next(plan)

    def load(rows: list[int]) -> Batch:
        own = group.share(rows) or rows[:1]  # a process without a share takes part with weight 0
        return speech.batch([speech.train[row] for row in own], recipe.target_clip)

    return prefetched(plan, load)


@torch.no_grad()
def _follow(average: HubertSupernet, model: HubertSupernet, recipe: StageRecipe, step: int) -> None:
    """Moves the running mean on by a step; early on it is the plain mean of few steps, not of the initial weights."""
    decay = min(recipe.ema, step / (step + 10))
    for mean, value in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)


@torch.no_grad()
def validate(
    model: HubertSupernet,
    utterances: Sequence[Utterance],
    speech: TrainingSpeech,
    recipe: StageRecipe,
    device: str = "cpu",
) -> dict[str, list[float]]:
    """Teacher distance of the smallest, middle and largest subnet on `utterances`: one number for each head.

    Mean squared error on standardised targets over all speech frames, unmasked: 1.0 knows nothing.
    """
    was_training = model.training
    model.eval()
    space = model.space
    named = {"smallest": space.smallest, "middle": space.middle, "largest": space.largest}
    sums = {name: torch.zeros(len(model.head_layers), dtype=torch.float64) for name in named}
    total = 0
    dtype = DTYPES[recipe.precision]
    for rows in batches([utterance.seconds for utterance in utterances], recipe.batch_seconds):
        batch = speech.batch([utterances[row] for row in rows], recipe.target_clip)
        wav, targets = batch.wav.to(device), batch.targets.to(device)
        with torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not None):
            features = model.front_end(wav)
            mask = model.frame_mask(batch.lengths.to(device), wav.shape[1], features.shape[1])
            count = int(mask.sum()) if mask is not None else features.shape[0] * features.shape[1]
            for name, subnet in named.items():
                with model.active(subnet):
                    predictions = model.predict(model.encode(features, mask).hidden_states)
                    losses = distillation_loss(model, predictions, targets[:, : features.shape[1]], mask)
                    sums[name] += losses.double().cpu() * count
        total += count
    model.train(was_training)
    return {name: [round(value, 5) for value in (sums[name] / total).tolist()] for name in named}


# -------------------------------------------------------------------- checkpoints


def _checkpoint(out: Path, trainer: Trainer, step: int, average: HubertSupernet | None) -> None:
    state = {
        "recipe": trainer.recipe.to_dict(),
        "step": step,
        "model": trainer.model.state_dict(),
        "optimiser": trainer.optimiser.state_dict(),
    }
    if average is not None:
        state["average"] = average.state_dict()
    save_state(out, state)


def _restore(out: Path, trainer: Trainer, average: HubertSupernet | None) -> int:
    """The step to resume from: that of the checkpoint in `out`, or 0."""
    state = load_state(out, "recipe")
    if state is None:
        return 0
    added_later = {"loss": "mse", "in_place": 0.0, "ema": 0.0, "budgets": ()}
    was = {**added_later, **state["recipe"]}
    for key, now in trainer.recipe.to_dict().items():
        same = tuple(was.get(key, ())) == now if isinstance(now, tuple) else was.get(key) == now
        if not same and key not in ("validate_every", "checkpoint_every"):
            raise RunError(
                f"{out} was started with {key}={was.get(key)}, now {key}={now}: "
                "train into another folder, or set it back"
            )
    trainer.model.load_state_dict(state["model"])
    trainer.optimiser.load_state_dict(state["optimiser"])
    if average is not None:
        average.load_state_dict(state["average"])
    return int(state["step"])


def _trim_log(log: Path, step: int) -> None:
    """Drops the lines of steps that the checkpoint does not have: they will be done again."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
        record = json.loads(line) if line.endswith("\n") else None
        if record is None or record["step"] >= step + ("dev" in record):
            break
        kept.append(line)
    write_text(log, "".join(kept))
