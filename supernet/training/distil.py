"""Both stages of a distillation: from a teacher and a manifest to a finished supernet."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from search_spaces import AdditiveTable, AudioError, CheckpointError, Space, get_space
from supernet.audio import Utterance, read_manifest
from supernet.calibration import CalibrationSpeech, save_calibration
from supernet.checkpoint import load_supernet, save_supernet
from supernet.model import HubertSupernet
from supernet.teacher import TargetCache, Teacher, load_teacher
from supernet.training.batches import TrainingSpeech
from supernet.training.processes import joined, processes
from supernet.training.recipe import StageRecipe, TrainSettings, parse_layers
from supernet.training.stage import Progress, subnets_within, train_stage

__all__ = ["calibration_speech", "distil", "train", "untrained"]

Tables = Mapping[str, AdditiveTable]


def train(
    settings: TrainSettings, tables: Callable[[Space], Tables], progress: Progress = lambda record: None
) -> Path | None:
    """The training that `settings` describe, as one of its processes; the finished folder, or None if stopped.

    `tables` gives the costs of a space that budgets may be on.
    """
    with joined(settings.device) as device:
        start = None if settings.init is None else load_supernet(settings.init, device)
        space = start.space if start else get_space(settings.space)
        recipes, costs = settings.recipes(), tables(space)
        for recipe in recipes:
            subnets_within(space, recipe, costs)  # raises before the teacher is loaded
        layers = None if settings.teacher_layers is None else parse_layers(settings.teacher_layers)
        teacher = load_teacher(settings.teacher, layers, device)
        return distil(
            space,
            teacher,
            Path(settings.audio),
            Path(settings.out),
            recipes,
            device,
            progress,
            None if settings.targets is None else Path(settings.targets),
            math.inf if settings.minutes is None else 60 * settings.minutes,
            start,
            costs,
        )


def distil(
    space: Space,
    teacher: Teacher,
    audio: Path,
    out: Path,
    recipes: Sequence[StageRecipe],
    device: str = "cpu",
    progress: Progress = lambda record: None,
    targets: Path | None = None,
    stop_after: float = math.inf,
    start: HubertSupernet | None = None,
    tables: Tables | None = None,
) -> Path | None:
    """Trains a supernet of `space` from `teacher` on the manifest `audio`; the finished folder, or None if stopped.

    `out/targets` (or `targets`) keeps the teacher's targets, `out/stage1` and `out/stage2` the stages, `out/supernet`
    the result: float16 weights, provenance and calibration speech. What is done already is not done again.
    `start`: a trained supernet to start from, with `recipes` for what is still to do. `tables`: costs of budgets.
    """
    began, group = time.monotonic(), processes()
    speech = _speech(audio, teacher, space, targets or out / "targets", progress)
    heads = tuple(round(space.network.num_layers * (k + 1) / len(teacher.layers)) for k in range(len(teacher.layers)))
    model = start or untrained(space, heads, teacher.dim, recipes[0].seed)
    if (model.space, model.head_layers, model.head_dim) != (space, heads, teacher.dim):
        raise CheckpointError(
            f"training goes on in the supernet's own space '{model.space.name}', with a teacher of "
            f"{len(model.head_layers)} layers of width {model.head_dim}; got '{space.name}' and "
            f"{len(heads)} layers of width {teacher.dim}"
        )
    model.provenance = _provenance(teacher, speech.train, recipes, model.provenance)
    for recipe in recipes:
        left = stop_after - (time.monotonic() - began)
        progress({"stage": recipe.stage, "steps": recipe.steps})
        if not train_stage(model, recipe, speech, out / f"stage{recipe.stage}", device, progress, left, tables):
            return None
    if group.first:
        finished = save_supernet(model, out / "supernet", torch.float16)
        save_calibration(calibration_speech(model.to("cpu"), speech), finished / "calibration.safetensors")
    group.wait()
    return out / "supernet"


def _speech(audio: Path, teacher: Teacher, space: Space, targets: Path, progress: Progress) -> TrainingSpeech:
    """The manifest's speech with the teacher's targets, which the first process computes if they are missing."""
    group = processes()
    train, dev = _splits(audio)
    if not group.first:
        group.wait()
    cache = TargetCache(targets, teacher, space.network.frames)
    if group.first:
        for name, utterances in (("dev", dev), ("train", train)):
            _fill(cache, name, utterances, progress)
        group.wait()
    return TrainingSpeech(train, dev, cache, cache.statistics(train))


def _fill(cache: TargetCache, name: str, utterances: Sequence[Utterance], progress: Progress) -> None:
    total = sum(utterance.seconds for utterance in cache.missing(utterances))
    cache.fill(utterances, lambda seconds: progress({"targets": name, "seconds": seconds, "of": total}))


def untrained(space: Space, head_layers: tuple[int, ...], head_dim: int, seed: int) -> HubertSupernet:
    """An untrained supernet whose weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HubertSupernet(space, head_layers, head_dim)


@torch.no_grad()
def calibration_speech(model: HubertSupernet, speech: TrainingSpeech, seconds: float = 62.0) -> CalibrationSpeech:
    """Front-end features and targets of at least `seconds` of evenly spread dev utterances (weights as in fp16)."""
    rounded = untrained(model.space, model.head_layers, model.head_dim, 0).eval()
    rounded.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})
    every = max(1, int(sum(u.seconds for u in speech.dev) / seconds * 0.9))
    order = [u for start in range(every) for u in speech.dev[start::every]]
    features, targets, total = [], [], 0.0
    for utterance in order:
        if total >= seconds:
            break
        alone = speech.batch([utterance], clip=4.0)
        features.append(rounded.front_end(alone.wav)[0])
        targets.append(alone.targets[0])
        total += alone.wav.shape[1] / 16_000
    return CalibrationSpeech(features, targets)


def _splits(audio: Path) -> tuple[list[Utterance], list[Utterance]]:
    """Training and validation speech: the manifest's splits, or every 20th utterance held out if it has none."""
    everything = read_manifest(audio)
    train, dev = ([u for u in everything if u.split == split] for split in ("train", "dev"))
    if not train and not dev and len(everything) > 1:
        train, dev = [u for i, u in enumerate(everything) if i % 20], everything[::20]
    if not train or not dev:
        raise AudioError(f"manifest {audio} needs utterances of the splits train and dev (or no splits at all)")
    return train, dev[:: max(1, round(sum(u.seconds for u in dev) / 300))]


def _provenance(
    teacher: Teacher, train: Sequence[Utterance], recipes: Sequence[StageRecipe], before: Mapping[str, object]
) -> dict[str, object]:
    earlier = before.get("recipes", [])
    assert isinstance(earlier, list)
    return {
        **before,
        "teacher": teacher.kind,
        "teacher_sha256": teacher.fingerprint,
        "teacher_layers": [each[0] if len(each) == 1 else list(each) for each in teacher.layers],
        "hours_of_speech": round(sum(utterance.seconds for utterance in train) / 3600, 2),
        "recipes": [*earlier, *(recipe.to_dict() for recipe in recipes)],
        "torch": torch.__version__,
    }
