"""One update of the weights, on one process's share of a batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from search_spaces import NasError, Subnet
from supernet.audio import RATE
from supernet.model import HubertSupernet
from supernet.training.batches import Batch
from supernet.training.context import TrainingRecord
from supernet.training.goal import Goal, OwnOutput
from supernet.training.losses import distillation_loss, span_mask, step_subnets
from supernet.training.muon import Muon
from supernet.training.processes import Processes
from supernet.training.recipe import StageRecipe

__all__ = ["AUTOCAST", "Comparison", "Learner", "optimiser_of", "train_step", "update"]

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The dtype of `torch.autocast` for each precision of a recipe; None: no autocast."""


@dataclass(frozen=True)
class Learner:
    """What every update of a stage uses; `losses` is the forward pass, shared by the processes of `group`."""

    model: HubertSupernet
    recipe: StageRecipe
    optimiser: torch.optim.Optimizer
    losses: nn.Module
    group: Processes
    device: str

    @classmethod
    def of(
        cls,
        model: HubertSupernet,
        recipe: StageRecipe,
        optimiser: torch.optim.Optimizer,
        group: Processes,
        device: str,
        goal: Goal | None = None,
    ) -> Learner:
        """The learner of one process. All processes of `group` must call this with equal weights."""
        losses: nn.Module = _Losses(model, recipe, goal)
        if group.count > 1:
            gpus = [torch.device(device)] if device.startswith("cuda") else None
            losses = DistributedDataParallel(losses, device_ids=gpus, find_unused_parameters=True)  # by small subnets
        return cls(model, recipe, optimiser, losses, group, device)


class _Losses(nn.Module):
    """The forward pass of a step as one module, which is what DistributedDataParallel can share."""

    def __init__(self, model: HubertSupernet, recipe: StageRecipe, goal: Goal | None) -> None:
        super().__init__()
        self.model, self.recipe, self.goal = model, recipe, goal

    def forward(
        self, batch: Batch, wav: Tensor, masked: Tensor | None, subnets: Sequence[Subnet]
    ) -> tuple[Tensor, int]:
        """The loss of each subnet and head (subnets, K), and the number of frames that it is the mean of."""
        compared = Comparison.of(self.model, self.goal, batch, wav, masked)
        losses, truth, recipe = [], compared.targets, self.recipe
        for i, subnet in enumerate(subnets):
            predictions = compared.predictions(subnet)
            loss = distillation_loss(predictions, truth, compared.mask, recipe.loss, recipe.voice)
            if recipe.kl or recipe.ce:
                kl, ce = compared.nats(predictions[0]).sum(1) / max(1, int(compared.counts.sum()))
                loss = loss + recipe.kl * kl + recipe.ce * ce
            losses.append(loss)
            if i == 0 and self.recipe.in_place and len(subnets) > 1:
                truth = torch.lerp(truth, torch.stack(predictions, 2).detach().float(), self.recipe.in_place)
        return torch.stack(losses), compared.frames


@dataclass
class Comparison:
    """Subnets of `model` and what they are to predict, `targets` (B, T, K, dim), on the same padded waveforms.

    Without `goal`, the supernet's heads predict. `mask` (B, T): True for the frames that count; None: all of them.
    `tokens` (B, L): of the texts that a decoder reads.
    """

    model: HubertSupernet
    goal: Goal | None
    wav: Tensor
    targets: Tensor
    mask: Tensor | None
    speech: Tensor | None
    masked: Tensor | None
    tokens: Tensor | None
    features: dict[tuple[int, ...], Tensor]

    @classmethod
    def of(
        cls, model: HubertSupernet, goal: Goal | None, batch: Batch, wav: Tensor, masked: Tensor | None = None
    ) -> Comparison:
        """`wav` (B, S): the batch's, on the model's device, maybe padded further; `masked` (B, T): hidden frames."""
        lengths, frames = batch.lengths.to(wav.device), model.space.network.frames(wav.shape[1])
        speech = model.frame_mask(lengths, wav.shape[1], frames)
        if isinstance(goal, OwnOutput):  # whoever hears padding must find its frames as they were
            counted = None if model.space.network.mel else speech
            return cls(model, goal, wav, goal.targets(wav, lengths), counted, speech, masked, batch.tokens, {})
        assert batch.targets is not None
        own = F.pad(batch.targets.to(wav.device), (0, 0, 0, 0, 0, max(0, frames - batch.targets.shape[1])))[:, :frames]
        return cls(model, goal, wav, own, speech, speech, masked, None, {})

    @property
    def frames(self) -> int:
        """How many frames count."""
        return self.targets.shape[0] * self.targets.shape[1] if self.mask is None else int(self.mask.sum())

    def predictions(self, subnet: Subnet) -> list[Tensor]:
        """The subnet's predictions (B, T, dim), one for each of the K targets."""
        model, front_end = self.model, subnet.front_end
        if front_end not in self.features:
            self.features[front_end] = model.features(self.wav, front_end)
        with model.active(subnet):
            states = model.encode(self.features[front_end], self.speech, self.masked).hidden_states
            return self.goal.predictions(states) if isinstance(self.goal, OwnOutput) else model.predict(states)

    @cached_property
    def _whole(self) -> Tensor:
        goal, tokens = self._read
        with torch.no_grad():
            return goal.decoded(self.targets[:, :, 0], tokens)

    def nats(self, prediction: Tensor) -> Tensor:
        """(2, B): what the decoder makes of a prediction (B, T, dim), as `OwnOutput.nats` says."""
        goal, tokens = self._read
        return goal.nats(goal.decoded(prediction, tokens), self._whole, tokens)

    @property
    def counts(self) -> Tensor:
        """(B,): over how many tokens."""
        goal, tokens = self._read
        return goal.counts(tokens)

    @property
    def _read(self) -> tuple[OwnOutput, Tensor]:
        assert isinstance(self.goal, OwnOutput)
        assert self.tokens is not None
        return self.goal, self.tokens


def optimiser_of(model: HubertSupernet, recipe: StageRecipe) -> torch.optim.Optimizer:
    """AdamW, fused into one pass over each weight, or Muon for the matrices of the layers and AdamW for the rest.

    Norms, biases and the mask embedding do not decay.
    """
    layers = {p for p in model.encoder.layers.parameters() if p.ndim == 2} if recipe.optimiser == "muon" else set()
    decayed = [p for p in model.parameters() if p.ndim > 1 and p not in layers]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)
    if not layers:
        return adamw
    matrices = [p for p in model.parameters() if p in layers]
    return Muon(matrices, adamw, recipe.learning_rate, recipe.weight_decay)


def train_step(
    model: HubertSupernet,
    recipe: StageRecipe,
    optimiser: torch.optim.Optimizer,
    step: int,
    batch: Batch,
    device: str,
    goal: Goal | None = None,
) -> TrainingRecord:
    """One update in a single process."""
    return update(Learner.of(model, recipe, optimiser, Processes(), device, goal), step, batch, len(batch.ids))


def update(learner: Learner, step: int, batch: Batch, utterances: int) -> TrainingRecord:
    """One update on this process's share of a batch of `utterances`; returns the log's record of the step.

    Random choices depend on the recipe's seed, the stage and `step` alone.
    Raises `NasError` naming the batch's recordings if the loss is not finite.
    """
    started = time.monotonic()
    recipe, group = learner.recipe, learner.group
    rng = np.random.default_rng([recipe.seed, recipe.stage, 1, step])
    subnets = _subnets(learner, rng)
    lengths = group.in_order(batch.lengths.tolist())[:utterances]
    masked = _own_mask(learner, recipe.mask_prob_at(step), rng, lengths)
    for settings in learner.optimiser.param_groups:
        settings["lr"] = recipe.learning_rate_at(step)
    learner.optimiser.zero_grad(set_to_none=True)
    samples = max(group.in_order([batch.wav.shape[1]]))
    per_head, frames = _forward(learner, batch, samples, masked, subnets)
    own = torch.tensor(float(frames if group.rank < utterances else 0), device=learner.device)
    share = own / group.total(own.clone())
    weights = torch.tensor(recipe.layer_weights[-per_head.shape[1] :], device=learner.device)
    weights = weights / weights.sum()
    overall = group.total(per_head.detach() * share)
    loss = (overall * weights).sum(1).mean()
    if not torch.isfinite(loss):
        raise NasError(
            f"loss is {loss.item()} at step {step} of stage {recipe.stage}; recordings: {', '.join(batch.ids)}"
        )
    scale = group.count * share  # gradients are averaged over processes; 1 in a single process
    ((per_head * weights).sum(1).mean() * scale).backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(learner.model.parameters(), recipe.clip_norm)
    learner.optimiser.step()
    return {
        "loss": round(loss.item(), 5),
        "layers": [round(value, 4) for value in overall.mean(0).tolist()],
        "grad_norm": round(float(norm), 4),
        "seconds": round(time.monotonic() - started, 3),
        "audio_seconds": round(sum(lengths) / RATE, 1),
    }


def _subnets(learner: Learner, rng: np.random.Generator) -> list[Subnet]:
    recipe, space = learner.recipe, learner.model.space
    if recipe.stage == 1:
        return [space.largest]
    return step_subnets(space, recipe.sampler, rng, [each.subnets for each in recipe.budgets])


def _own_mask(learner: Learner, prob: float, rng: np.random.Generator, lengths: Sequence[int]) -> Tensor | None:
    """This process's rows (B, T) of the mask, True for masked frames. The mask of the whole batch is drawn at once."""
    if not prob:
        return None
    group = learner.group
    frames = [learner.model.space.network.frames(length) for length in lengths]
    mask = torch.from_numpy(span_mask(rng, frames, max(frames), prob))
    return (mask[group.rank :: group.count] if group.rank < len(mask) else mask[:1]).to(learner.device)


def _forward(
    learner: Learner, batch: Batch, samples: int, masked: Tensor | None, subnets: Sequence[Subnet]
) -> tuple[Tensor, int]:
    """What `_Losses` returns, on the batch padded to `samples`: the longest of all processes' waveforms.

    The front end's group norm depends on the padding.
    """
    device, dtype = learner.device, AUTOCAST[learner.recipe.precision]
    wav = F.pad(batch.wav, (0, samples - batch.wav.shape[1]))
    with torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not None):
        losses: tuple[Tensor, int] = learner.losses(batch, wav.to(device), masked, subnets)
    return losses
