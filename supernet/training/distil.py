"""The training loop of both stages: resumable to the bit, validated, logged.

Everything random comes from (seed, stage, step) or (seed, epoch), so that a run killed at any moment and resumed
from its last checkpoint is, on a CPU, bit for bit the run that was not killed. Several processes (torchrun, Ray Train)
share each batch, and are the same run up to rounding: see `supernet.training.processes`.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from search_spaces import AudioError, CheckpointError, Feasible, NasError, RunError, Space, Subnet
from supernet.audio import Utterance, batches, load_audio, normalise, read_manifest
from supernet.calibration import CalibrationSpeech, save_calibration
from supernet.checkpoint import save_supernet
from supernet.model import HubertSupernet
from supernet.teacher import TargetCache, Teacher
from supernet.training.losses import LOSSES, SAMPLERS, distillation_loss, span_mask, step_subnets
from supernet.training.processes import Processes, processes
from supernet.training.state import load_state, save_state

__all__ = [
    "Batch",
    "Recipe",
    "calibration_speech",
    "distil",
    "load_batch",
    "optimiser_of",
    "train_stage",
    "train_step",
    "untrained",
    "validate",
]

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Recipe:
    """Settings of one stage. Stage 1 trains the largest subnet, stage 2 the supernet.

    `in_place`: how much of the other subnets' targets is what the sandwich's largest predicts (BigNAS has 1, here 0 is
    the teacher alone). `ema`: decay of the running mean of the weights that is validated and kept; 0 for none.
    `budgets`: what the subnet at random keeps, one of them each time; without, each of its choices is uniform.
    """

    stage: int
    steps: int
    batch_seconds: float = 32.0
    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    mask_prob: float = 0.3
    mask_from: float = 0.5
    sampler: str = "sandwich"
    loss: str = "mse"
    in_place: float = 0.0
    ema: float = 0.0
    budgets: tuple[str, ...] = ()
    target_clip: float = 4.0
    layer_weights: tuple[float, ...] = field(default=(1.0, 1.0, 1.0))
    precision: str = "bf16"
    seed: int = 0
    validate_every: int = 250
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if self.stage not in (1, 2) or self.steps < 1:
            raise NasError(
                f"a recipe needs stage 1 or 2 and at least one step; got stage={self.stage}, steps={self.steps}"
            )
        if self.sampler not in SAMPLERS:
            raise NasError(f"sampler must be one of {', '.join(SAMPLERS)}; got {self.sampler!r}")
        if self.loss not in LOSSES:
            raise NasError(f"loss must be one of {', '.join(LOSSES)}; got {self.loss!r}")
        if not (0 <= self.in_place <= 1 and 0 <= self.ema < 1):
            raise NasError(f"in_place must be in 0..1 and ema in 0..1 (below 1); got {self.in_place} and {self.ema}")
        if self.in_place and self.stage == 2 and self.sampler != "sandwich":
            raise NasError(f"in_place needs the largest subnet in each step: sampler sandwich; got {self.sampler!r}")
        if self.precision not in PRECISIONS:
            raise NasError(f"precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}")

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up over `warmup` of the steps, then a half cosine down to 2 % of the peak."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        done = (step - warm) / max(1, self.steps - warm)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))

    def mask_prob_at(self, step: int) -> float:
        """No mask up to `mask_from` of the steps, then `mask_prob`: masking from the start collapses (docs/log.md)."""
        return self.mask_prob if step >= self.mask_from * self.steps else 0.0


@dataclass(frozen=True)
class Batch:
    """Padded waveforms (B, S), their lengths, standardised targets (B, T, K, dim), and who is in it."""

    wav: Tensor
    lengths: Tensor
    targets: Tensor
    ids: tuple[str, ...]


def load_batch(utterances: Sequence[Utterance], cache: TargetCache, mean: Tensor, std: Tensor, clip: float) -> Batch:
    """Reads the recordings and their cached targets; waveforms are normalised, targets standardised and clipped."""
    waves = [torch.from_numpy(normalise(load_audio(utterance.audio))) for utterance in utterances]
    lengths = torch.tensor([len(wave) for wave in waves])
    targets = [torch.from_numpy(cache[utterance.id].astype(np.float32)) for utterance in utterances]
    padded = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True)
    return Batch(
        torch.nn.utils.rnn.pad_sequence(waves, batch_first=True),
        lengths,
        ((padded - mean) / std).clamp_(-clip, clip),
        tuple(utterance.id for utterance in utterances),
    )


def _plan(seconds: Sequence[float], recipe: Recipe) -> Iterator[list[int]]:
    """Batches of indices for step 0, 1, 2, ...: epoch after epoch."""
    epoch = 0
    while True:
        yield from batches(seconds, recipe.batch_seconds, np.random.default_rng([recipe.seed, recipe.stage, epoch]))
        epoch += 1


def _prefetched(
    plan: Iterator[list[int]], load: Callable[[list[int]], Batch], ahead: int = 3
) -> Generator[tuple[list[int], Batch], None, None]:
    """Batches in order, with their indices, read by one thread while the step before runs."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [(rows, pool.submit(load, rows)) for rows in islice(plan, ahead)]
        while True:
            rows, batch = waiting.pop(0)
            yield rows, batch.result()
            waiting += [(rows, pool.submit(load, rows)) for rows in islice(plan, 1)]


def train_stage(
    model: HubertSupernet,
    recipe: Recipe,
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    cache: TargetCache,
    statistics: tuple[Tensor, Tensor],
    out: Path,
    device: str = "cpu",
    progress: Callable[[dict[str, Any]], None] = lambda record: None,
    stop_after: float = math.inf,
    within: Sequence[Feasible] = (),
) -> bool:
    """Trains one stage into `out`, going on from its last checkpoint; True when all steps are done.

    `out` gets `state.pt` (weights, optimiser, step), `log.jsonl` (one line a step or validation) and, when
    finished, the supernet itself. `stop_after` seconds it checkpoints and returns False. `within` are the subnets that
    keep the recipe's budgets, one set for each.
    Raises `NasError` naming the batch's recordings where the loss is not finite.
    """
    if len(within) != len(recipe.budgets):
        raise NasError(f"a recipe with {len(recipe.budgets)} budgets needs as many sets of subnets; got {len(within)}")
    group = processes()
    out.mkdir(parents=True, exist_ok=True)
    mean, std = statistics
    model.to(device).train()
    optimiser = optimiser_of(model, recipe)
    average = _average(model, recipe)
    step = _restore(out, recipe, model, optimiser, average)
    if step != group.agreed(step):
        raise RunError(f"not every process sees the checkpoint in {out}: they need a folder that all nodes share")
    losses = _shared_losses(model, recipe, group, device)
    if group.first:
        _trim_log(out / "log.jsonl", step)
    plan = _plan([utterance.seconds for utterance in train], recipe)
    for _ in range(step):
        next(plan)

    def load(rows: list[int]) -> Batch:
        own = group.share(rows) or rows[:1]  # who has nothing to do takes part, with no weight
        return load_batch([train[row] for row in own], cache, mean, std, recipe.target_clip)

    data = _prefetched(plan, load)
    started = time.monotonic()
    with (out / "log.jsonl" if group.first else Path(os.devnull)).open("a", encoding="utf-8") as log:

        def say(record: dict[str, Any]) -> None:
            log.write(json.dumps(record) + "\n")
            log.flush()
            progress(record)

        while step < recipe.steps:
            rows, batch = next(data)
            done = _step(model, losses, recipe, optimiser, step, batch, len(rows), group, device, within)
            say({"step": step, **done})
            step += 1
            _follow(average, model, recipe, step)
            if group.first and (step % recipe.validate_every == 0 or step == recipe.steps):
                say({"step": step, "dev": validate(average or model, dev, cache, statistics, recipe, device)})
            late = group.agreed(time.monotonic() - started > stop_after)
            if group.first and (step % recipe.checkpoint_every == 0 or step == recipe.steps or late):
                _checkpoint(out, recipe, model, optimiser, step, average)
            if late:
                break
    data.close()
    if step == recipe.steps and average is not None:
        model.load_state_dict(average.state_dict())
    if group.first and step == recipe.steps:
        save_supernet(model, out)
    group.wait()
    return step == recipe.steps


def _average(model: HubertSupernet, recipe: Recipe) -> HubertSupernet | None:
    """A copy of the model for the running mean of its weights, where the recipe wants one."""
    return copy.deepcopy(model).eval() if recipe.ema else None


@torch.no_grad()
def _follow(average: HubertSupernet | None, model: HubertSupernet, recipe: Recipe, step: int) -> None:
    """Moves the mean on by a step; early on it is the plain mean of few steps, not of the beginning."""
    if average is not None:
        decay = min(recipe.ema, step / (step + 10))
        for mean, value in zip(average.parameters(), model.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)


class _Losses(nn.Module):
    """The forward pass of a step, as one module, so that several processes can share it."""

    def __init__(self, model: HubertSupernet, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(
        self, wav: Tensor, lengths: Tensor, targets: Tensor, masked: Tensor | None, subnets: Sequence[Subnet]
    ) -> tuple[Tensor, int]:
        """The loss of each subnet and head, and how many frames it is the mean of."""
        model = self.model
        features = model.front_end(wav)
        frames = features.shape[1]
        mask = model.frame_mask(lengths, wav.shape[1], frames)
        losses, goal = [], targets[:, :frames]
        for i, subnet in enumerate(subnets):
            with model.active(subnet):
                predictions = model.predict(model.encode(features, mask, masked).hidden_states)
            losses.append(distillation_loss(model, predictions, goal, mask, self.recipe.loss))
            if i == 0 and self.recipe.in_place and len(subnets) > 1:
                goal = torch.lerp(goal, torch.stack(predictions, 2).detach().float(), self.recipe.in_place)
        return torch.stack(losses), features.shape[0] * frames if mask is None else int(mask.sum())


def _shared_losses(model: HubertSupernet, recipe: Recipe, group: Processes, device: str) -> nn.Module:
    losses = _Losses(model, recipe)
    if group.count == 1:
        return losses
    gpus = [torch.device(device)] if device.startswith("cuda") else None
    return DistributedDataParallel(losses, device_ids=gpus, find_unused_parameters=True)  # subnets leave some unused


def optimiser_of(model: HubertSupernet, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW, fused into one pass over each weight; norms, biases and the mask embedding do not decay."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)


def train_step(
    model: HubertSupernet, recipe: Recipe, optimiser: torch.optim.AdamW, step: int, batch: Batch, device: str
) -> dict[str, Any]:
    """One update in one process; returns what the log says of it."""
    return _step(model, _Losses(model, recipe), recipe, optimiser, step, batch, len(batch.ids), Processes(), device)


def _step(
    model: HubertSupernet,
    losses: nn.Module,
    recipe: Recipe,
    optimiser: torch.optim.AdamW,
    step: int,
    batch: Batch,
    utterances: int,
    group: Processes,
    device: str,
    within: Sequence[Feasible] = (),
) -> dict[str, Any]:
    """One update, on this process's share of a batch of `utterances`; returns what the log says of it."""
    before = time.monotonic()
    rng = np.random.default_rng([recipe.seed, recipe.stage, 1, step])
    space = model.space
    subnets = [space.largest] if recipe.stage == 1 else step_subnets(space, recipe.sampler, rng, within)
    lengths = group.in_order(batch.lengths.tolist())[:utterances]
    wav, targets = _padded(model, batch, max(lengths))
    masked = _masked(recipe.mask_prob_at(step), rng, model, lengths, group, device)
    for settings in optimiser.param_groups:
        settings["lr"] = recipe.learning_rate_at(step)
    optimiser.zero_grad(set_to_none=True)
    dtype = PRECISIONS[recipe.precision]
    with torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not None):
        per_layer, frames = losses(wav.to(device), batch.lengths.to(device), targets.to(device), masked, subnets)
    own = torch.tensor(float(frames if group.rank < utterances else 0), device=device)
    share = own / group.total(own.clone())
    weights = torch.tensor(recipe.layer_weights[-targets.shape[2] :], device=device)
    weights = weights / weights.sum()
    everyones = group.total(per_layer.detach() * share)
    loss = (everyones * weights).sum(1).mean()
    if not torch.isfinite(loss):
        raise NasError(
            f"loss is {loss.item()} at step {step} of stage {recipe.stage}; recordings: {', '.join(batch.ids)}"
        )
    scale = group.count * share  # gradients are averaged over processes: 1 where there is one
    ((per_layer * weights).sum(1).mean() * scale).backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    optimiser.step()
    return {
        "loss": round(loss.item(), 5),
        "layers": [round(value, 4) for value in everyones.mean(0).tolist()],
        "grad_norm": round(float(norm), 4),
        "seconds": round(time.monotonic() - before, 3),
        "audio_seconds": round(sum(lengths) / 16000, 1),
    }


def _padded(model: HubertSupernet, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
    """Waveforms and targets as long as the longest of all processes: group norm sees the padding."""
    frames = model.space.network.frames(samples)
    wav = F.pad(batch.wav, (0, samples - batch.wav.shape[1]))
    return wav, F.pad(batch.targets, (0, 0, 0, 0, 0, max(0, frames - batch.targets.shape[1])))


def _masked(
    prob: float, rng: np.random.Generator, model: HubertSupernet, lengths: Sequence[int], group: Processes, device: str
) -> Tensor | None:
    """This process's rows of the mask, which is drawn for all: (B, T), True where a frame is hidden."""
    if not prob:
        return None
    frames = [model.space.network.frames(length) for length in lengths]
    mask = torch.from_numpy(span_mask(rng, frames, max(frames), prob))
    return (mask[group.rank :: group.count] if group.rank < len(mask) else mask[:1]).to(device)


@torch.no_grad()
def validate(
    model: HubertSupernet,
    dev: Sequence[Utterance],
    cache: TargetCache,
    statistics: tuple[Tensor, Tensor],
    recipe: Recipe,
    device: str = "cpu",
) -> dict[str, list[float]]:
    """Teacher distance of the smallest, middle and largest subnet on `dev`: one number for each head.

    Mean squared error of standardised targets over all speech frames, unmasked: 1.0 knows nothing.
    """
    was_training = model.training
    model.eval()
    space = model.space
    named = {"smallest": space.smallest, "middle": space.middle, "largest": space.largest}
    sums = {name: torch.zeros(len(model.head_layers), dtype=torch.float64) for name in named}
    total = 0
    dtype = PRECISIONS[recipe.precision]
    for rows in batches([utterance.seconds for utterance in dev], recipe.batch_seconds):
        batch = load_batch([dev[row] for row in rows], cache, *statistics, recipe.target_clip)
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


# -------------------------------------------------------------------- both stages


def distil(
    space: Space,
    teacher: Teacher,
    audio: Path,
    out: Path,
    recipes: Sequence[Recipe],
    device: str = "cpu",
    progress: Callable[[dict[str, Any]], None] = lambda record: None,
    targets: Path | None = None,
    stop_after: float = math.inf,
    start: HubertSupernet | None = None,
    within: Sequence[Feasible] = (),
) -> Path | None:
    """Trains a supernet of `space` from `teacher` on the manifest `audio`; the finished folder, or None if stopped.

    `out/targets` (or `targets`) keeps the teacher's targets, `out/stage1` and `out/stage2` the stages, `out/supernet`
    the result: float16 weights, provenance and calibration speech. Whatever is done already is not done again.
    `start` is a trained supernet to go on from, with `recipes` for what is still to do; `within` what keeps the budgets
    of the second stage's.
    """
    began = time.monotonic()
    group = processes()
    train, dev = _splits(audio)
    if not group.first:
        group.wait()  # the first process computes the targets
    cache = TargetCache(targets or out / "targets", teacher, space.network.frames)
    for name, utterances in (("dev", dev), ("train", train)) if group.first else ():
        missing = cache.missing(utterances)
        total = sum(utterance.seconds for utterance in missing)
        cache.fill(
            utterances,
            lambda seconds, name=name, total=total: progress({"targets": name, "seconds": seconds, "of": total}),  # type: ignore[misc]
        )
    if group.first:
        group.wait()
    statistics = cache.statistics(train)
    heads = tuple(round(space.network.num_layers * (k + 1) / len(teacher.layers)) for k in range(len(teacher.layers)))
    model = start or untrained(space, heads, teacher.dim, recipes[0].seed)
    if (model.space, model.head_layers, model.head_dim) != (space, heads, teacher.dim):
        raise CheckpointError(
            f"training goes on in the supernet's own space '{model.space.name}', with a teacher of "
            f"{len(model.head_layers)} layers of width {model.head_dim}; got '{space.name}' and "
            f"{len(heads)} layers of width {teacher.dim}"
        )
    model.provenance = _provenance(teacher, train, recipes, model.provenance)
    for recipe in recipes:
        left = stop_after - (time.monotonic() - began)
        progress({"stage": recipe.stage, "steps": recipe.steps})
        folder = out / f"stage{recipe.stage}"
        own = within if recipe.budgets else ()
        if not train_stage(model, recipe, train, dev, cache, statistics, folder, device, progress, left, own):
            return None
    if group.first:
        finished = save_supernet(model, out / "supernet", torch.float16)
        save_calibration(
            calibration_speech(model.to("cpu"), dev, cache, statistics), finished / "calibration.safetensors"
        )
    group.wait()
    return out / "supernet"


def untrained(space: Space, head_layers: tuple[int, ...], head_dim: int, seed: int) -> HubertSupernet:
    """An untrained supernet whose weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HubertSupernet(space, head_layers, head_dim)


@torch.no_grad()
def calibration_speech(
    model: HubertSupernet,
    utterances: Sequence[Utterance],
    cache: TargetCache,
    statistics: tuple[Tensor, Tensor],
    seconds: float = 62.0,
) -> CalibrationSpeech:
    """Front-end features and targets of at least `seconds` of evenly chosen utterances (weights rounded to fp16)."""
    rounded = untrained(model.space, model.head_layers, model.head_dim, 0).eval()
    rounded.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})
    every = max(1, int(sum(u.seconds for u in utterances) / seconds * 0.9))
    order = [u for start in range(every) for u in utterances[start::every]]
    features, targets, total = [], [], 0.0
    for utterance in order:
        if total >= seconds:
            break
        alone = load_batch([utterance], cache, *statistics, clip=4.0)
        features.append(rounded.front_end(alone.wav)[0])
        targets.append(alone.targets[0])
        total += alone.wav.shape[1] / 16_000
    return CalibrationSpeech(features, targets)


def _splits(audio: Path) -> tuple[list[Utterance], list[Utterance]]:
    """Training and validation speech: the manifest's splits, or every 20th utterance held out where it has none."""
    everything = read_manifest(audio)
    train, dev = ([u for u in everything if u.split == split] for split in ("train", "dev"))
    if not train and not dev and len(everything) > 1:
        train, dev = [u for i, u in enumerate(everything) if i % 20], everything[::20]
    if not train or not dev:
        raise AudioError(f"manifest {audio} needs utterances of the splits train and dev (or no splits at all)")
    return train, dev[:: max(1, round(sum(u.seconds for u in dev) / 300))]


def _provenance(
    teacher: Teacher, train: Sequence[Utterance], recipes: Sequence[Recipe], before: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        **before,
        "teacher": teacher.kind,
        "teacher_sha256": teacher.fingerprint,
        "teacher_layers": [each[0] if len(each) == 1 else list(each) for each in teacher.layers],
        "hours_of_speech": round(sum(utterance.seconds for utterance in train) / 3600, 2),
        "recipes": [*before.get("recipes", []), *(asdict(recipe) for recipe in recipes)],
        "torch": torch.__version__,
    }


# -------------------------------------------------------------------- checkpoints


def _checkpoint(
    out: Path,
    recipe: Recipe,
    model: HubertSupernet,
    optimiser: torch.optim.AdamW,
    step: int,
    average: HubertSupernet | None = None,
) -> None:
    state = {"recipe": asdict(recipe), "step": step, "model": model.state_dict(), "optimiser": optimiser.state_dict()}
    if average is not None:
        state["average"] = average.state_dict()
    save_state(out, state)


def _restore(
    out: Path,
    recipe: Recipe,
    model: HubertSupernet,
    optimiser: torch.optim.AdamW,
    average: HubertSupernet | None = None,
) -> int:
    """The step to go on from: that of the checkpoint in `out`, or 0."""
    state = load_state(out, "recipe")
    if state is None:
        return 0
    was = {
        "loss": "mse",
        "in_place": 0.0,
        "ema": 0.0,
        "budgets": (),
        **state["recipe"],
    }  # checkpoints of before lack these
    now = asdict(recipe)
    for key in now:
        same = tuple(was.get(key, ())) == now[key] if isinstance(now[key], tuple) else was.get(key) == now[key]
        if not same and key not in ("validate_every", "checkpoint_every"):
            raise RunError(
                f"{out} was begun with {key}={was.get(key)}, now {key}={now[key]}: "
                "train into another folder, or set it back"
            )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    if average is not None:
        average.load_state_dict(state["average"])
    return int(state["step"])


def _trim_log(log: Path, step: int) -> None:
    """Drops lines of steps that the checkpoint does not have: they will be done again."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
        record = json.loads(line) if line.endswith("\n") else None
        if record is None or record["step"] >= step + ("dev" in record):
            break
        kept.append(line)
    partial = log.with_name(".log.jsonl.partial")
    partial.write_text("".join(kept), encoding="utf-8")
    partial.replace(log)
