"""Two-stage distillation: from a teacher and a manifest of speech to a supernet."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from search_spaces import AdditiveCost, CheckpointError, NasError, Space, get_space
from search_spaces.files import read_text, write_json
from supernet.audio import RATE, Utterance
from supernet.calibration import CalibrationSpeech, save_calibration
from supernet.checkpoint import load_supernet, save_supernet
from supernet.companion import save_rest
from supernet.model import HubertSupernet
from supernet.teacher import TargetCache, Teacher, load_teacher
from supernet.training.batches import TrainingData, load_batch, read_splits
from supernet.training.context import Progress, RunContext, ignore_progress
from supernet.training.goal import Goal, HeadTargets, OwnOutput
from supernet.training.processes import joined, processes
from supernet.training.recipe import StageRecipe, TrainSettings, budgeted_subnets, parse_teacher_layers
from supernet.training.stage import train_stage

__all__ = ["calibration_speech", "distil", "goal_of", "teacher_of", "train", "untrained"]

_ON_CPU = RunContext()


def train(
    settings: TrainSettings,
    costs: Callable[[Space], Mapping[str, AdditiveCost]] = lambda space: {},
    progress: Progress = ignore_progress,
) -> Path | None:
    """The training run that `settings` describe, as one of its processes: the supernet's folder, or None if stopped.

    `costs`: from a space, the costs that the settings' budgets may name; called if there are budgets.
    Raises `NasError` for settings that do not fit each other or this machine, `InfeasibleError` if no subnet keeps a
    budget.
    """
    with joined(settings.device) as device:
        start = None if settings.init is None else load_supernet(settings.init, device=device)
        space = start.space if start else get_space(settings.space)
        budgets = settings.budgets
        recipes = settings.recipes(budgeted_subnets(space, budgets, costs(space)) if budgets else ())
        teacher = teacher_of(start, settings.teacher, parse_teacher_layers(settings.teacher_layers), device)
        weights = len(settings.layer_weights)
        if weights and isinstance(teacher, Teacher) and weights != len(teacher.layers):
            raise NasError(
                f"{len(teacher.layers)} targets need as many --layer-weight; got {weights}: give one for each of "
                "--teacher-layers, in their order"
            )
        stop_after = math.inf if settings.minutes is None else 60 * settings.minutes
        run = RunContext(device, progress, stop_after)
        sweep = (settings.rates, settings.sweep_steps) if settings.rates else None
        return distil(
            space,
            teacher,
            settings.audio,
            settings.out,
            recipes,
            run,
            targets=settings.targets,
            start=start,
            sweep=sweep,
        )


def distil(
    space: Space,
    teacher: Teacher | HubertSupernet | None,
    audio: Path,
    out: Path,
    recipes: Sequence[StageRecipe],
    run: RunContext = _ON_CPU,
    *,
    targets: Path | None = None,
    start: HubertSupernet | None = None,
    sweep: tuple[Sequence[float], int] | None = None,
) -> Path | None:
    """Trains a supernet of `space` from `teacher` on the manifest `audio`; its folder, or None if stopped.

    `targets` (default: `out/targets`) keeps the teacher's targets, `out/stage1` and `out/stage2` keep the stages, and
    `out/supernet` is the result: float16 weights, provenance and calibration speech. Called again with the same
    arguments, it continues where it stopped. `start` is a trained supernet to continue from; `recipes` are then those
    of the stages still to do. The teacher of a supernet without heads is another one, whose largest subnet's output it
    learns; by default itself, as it is before training.
    `sweep`: learning rates of the last stage to try, and the steps with each. `run.stop_after` counts from this call
    on.
    Raises `CheckpointError` if `start` has another space or other heads than this training.
    """
    started = time.monotonic()
    train, dev = read_splits(audio)
    model = _model(space, teacher, recipes[0].seed, start) if isinstance(teacher, Teacher) else _without_heads(start)
    decoded = bool(recipes[-1].kl or recipes[-1].ce)
    goal = goal_of(model, teacher, targets or out / "targets", train, dev, run.progress, decoded)
    data = TrainingData(train, dev, goal, model.heard)
    if sweep is not None:
        rate = _best_rate(model, recipes[-1], data, out, *sweep, run)
        if rate is None:
            return None
        recipes = [*recipes[:-1], replace(recipes[-1], learning_rate=rate)]
    model.provenance = _provenance(teacher, train, recipes, model.provenance)
    model.trained_for_space = True
    for recipe in recipes:
        remaining = run.stop_after - (time.monotonic() - started)
        folder = out / f"stage{recipe.stage}"
        run.progress({"stage": recipe.stage, "steps": recipe.steps, "folder": str(folder)})
        if not train_stage(model, recipe, data, folder, replace(run, stop_after=remaining)):
            return None
    if processes().first:
        finished = save_supernet(model, out / "supernet", torch.float16)
        if isinstance(goal, HeadTargets):
            speech = calibration_speech(model.to("cpu"), dev, goal)
            save_calibration(speech, finished / "calibration.safetensors")
        elif model.source is not None:
            save_rest(model.source, finished)
    processes().wait()
    return out / "supernet"


def _best_rate(
    model: HubertSupernet,
    recipe: StageRecipe,
    data: TrainingData,
    out: Path,
    rates: Sequence[float],
    steps: int,
    run: RunContext,
) -> float | None:
    """The learning rate after `steps` steps with which the mean distance on dev is least; None if the time was up.

    `out/sweep.json` keeps the distances.
    """
    began, found = time.monotonic(), {}
    for rate in rates:
        folder = out / "sweep" / f"{rate:g}"
        tried = replace(recipe, steps=steps, learning_rate=rate, validate_every=steps)
        run.progress({"stage": recipe.stage, "steps": steps, "folder": str(folder)})
        left = run.stop_after - (time.monotonic() - began)
        if not train_stage(copy.deepcopy(model), tried, data, folder, replace(run, stop_after=left)):
            return None
        lines = [json.loads(line) for line in read_text(folder / "log.jsonl").splitlines()]
        values = [value for own in lines[-1]["dev"].values() for value in own]
        found[rate] = sum(values) / len(values)
    best = min(found, key=found.__getitem__)
    if processes().first:
        write_json(out / "sweep.json", {"best": best, "distances": {f"{rate:g}": found[rate] for rate in found}})
    return best


def teacher_of(
    model: HubertSupernet | None,
    path: Path | None,
    layers: Sequence[int | Sequence[int]] | None = None,
    device: str = "cpu",
) -> Teacher | HubertSupernet | None:
    """The teacher at `path`: of hidden states for a supernet with heads or a new one, else a whole model."""
    if path is None:
        return None
    if model is None or model.head_layers:
        return load_teacher(path, layers, device)
    return load_supernet(path, device=device)


def goal_of(
    model: HubertSupernet,
    teacher: Teacher | HubertSupernet | None,
    targets: Path,
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    progress: Progress = ignore_progress,
    decoded: bool = False,
) -> Goal:
    """What `model` learns from `teacher`: with heads, hidden states, which `targets` keeps; else the last one's output.

    `decoded`: and what a decoder makes of that. Raises `CheckpointError` for a teacher whose outputs are not like the
    model's.
    """
    if isinstance(teacher, Teacher):
        if decoded:
            raise NasError("kl and ce need a supernet with a decoder; this one has prediction heads")
        return HeadTargets.of(_filled_cache(targets, teacher, model.space, (dev, train), progress), train)
    if teacher is None:
        return OwnOutput.of(_without_heads(model), train, decoded)
    own, other = model.space.network, teacher.space.network
    if (own.width, own.hop, own.receptive_field) != (other.width, other.hop, other.receptive_field):
        raise CheckpointError(
            f"the teacher has outputs of width {other.width} every {other.hop} samples, the supernet of {own.width} "
            f"every {own.hop}: take the model that it was made from"
        )
    return OwnOutput.of(teacher, train, decoded)


def _filled_cache(
    folder: Path, teacher: Teacher, space: Space, splits: tuple[Sequence[Utterance], ...], progress: Progress
) -> TargetCache:
    """The targets of all utterances; the first process computes those that are missing, the others wait for it."""
    group = processes()
    if not group.first:
        group.wait()
    cache = TargetCache(folder, teacher, space.network.frames)
    if group.first:
        for name, utterances in zip(("dev", "train"), splits, strict=True):
            total = sum(utterance.seconds for utterance in cache.missing(utterances))
            cache.fill(utterances, partial(_report_targets, progress, name, total))
        group.wait()
    return cache


def _report_targets(progress: Progress, split: str, total: float, seconds: float) -> None:
    progress({"targets": split, "seconds": seconds, "of": total})


def _model(space: Space, teacher: Teacher, seed: int, start: HubertSupernet | None) -> HubertSupernet:
    """The supernet to train: `start`, or an untrained one with a head for each of the teacher's targets.

    Head k of K stands on layer L (k + 1) / K.
    """
    count = len(teacher.layers)
    heads = tuple(round(space.network.num_layers * (k + 1) / count) for k in range(count))
    model = start or untrained(space, heads, teacher.dim, seed)
    if (model.space, model.head_layers, model.head_dim) != (space, heads, teacher.dim):
        raise CheckpointError(
            f"training continues in the supernet's own space '{model.space.name}', with a teacher of "
            f"{len(model.head_layers)} layers of width {model.head_dim}; got '{space.name}' and "
            f"{len(heads)} layers of width {teacher.dim}"
        )
    return model


def _without_heads(start: HubertSupernet | None) -> HubertSupernet:
    """The supernet that is its own teacher."""
    if start is None or start.head_layers:
        raise CheckpointError("a supernet with prediction heads needs the teacher that they predict (--teacher)")
    return start


def untrained(space: Space, head_layers: tuple[int, ...], head_dim: int, seed: int) -> HubertSupernet:
    """An untrained supernet whose weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HubertSupernet(space, head_layers, head_dim)


@torch.no_grad()
def calibration_speech(
    model: HubertSupernet, utterances: Sequence[Utterance], targets: HeadTargets, seconds: float = 62.0
) -> CalibrationSpeech:
    """Front-end features and targets of at least `seconds` of evenly chosen utterances (all, if there is less).

    The features are those of the weights rounded to float16, as they are saved.
    """
    rounded = copy.deepcopy(model).eval()
    rounded.load_state_dict({name: value.half().to(value.dtype) for name, value in model.state_dict().items()})
    every = max(1, int(sum(u.seconds for u in utterances) / seconds * 0.9))
    order = [u for start in range(every) for u in utterances[start::every]]
    features: dict[tuple[int, ...], list[Tensor]] = {front_end: [] for front_end in model.space.front_ends}
    states, total = [], 0.0
    for utterance in order:
        if total >= seconds:
            break
        batch = load_batch([utterance], targets, clip=4.0, heard=model.heard)
        assert batch.targets is not None
        for front_end, own in rounded.features_of_each(batch.wav).items():
            features[front_end].append(own[0])
        states.append(batch.targets[0])
        total += batch.wav.shape[1] / RATE
    return CalibrationSpeech.of(features, states)


def _provenance(
    teacher: Teacher | HubertSupernet | None,
    train: Sequence[Utterance],
    recipes: Sequence[StageRecipe],
    before: Mapping[str, object],
) -> dict[str, object]:
    earlier = before.get("recipes")
    return {
        **before,
        **_of_teacher(teacher),
        "hours_of_speech": round(sum(utterance.seconds for utterance in train) / 3600, 2),
        "recipes": [*(earlier if isinstance(earlier, list) else []), *(recipe.to_dict() for recipe in recipes)],
        "torch": torch.__version__,
    }


def _of_teacher(teacher: Teacher | HubertSupernet | None) -> dict[str, object]:
    if not isinstance(teacher, Teacher):
        weights = "" if teacher is None else f" of the supernet {teacher.fingerprint()}"
        return {"teacher": f"the largest subnet{weights}" if weights else "its own largest subnet before training"}
    return {
        "teacher": teacher.kind,
        "teacher_sha256": teacher.fingerprint,
        "teacher_layers": [each[0] if len(each) == 1 else list(each) for each in teacher.layers],
    }
