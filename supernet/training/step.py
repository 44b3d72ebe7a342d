"""One update of the supernet, alone or as one of several processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from search_spaces import Feasible, NasError, Subnet
from supernet.model import HubertSupernet
from supernet.training.batches import Batch
from supernet.training.losses import distillation_loss, span_mask, step_subnets
from supernet.training.processes import Processes
from supernet.training.recipe import StageRecipe

__all__ = ["DTYPES", "Trainer", "optimiser_of", "train_step"]

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
StepRecord = dict[str, float | list[float]]


class _Losses(nn.Module):
    """The forward pass of a step, as one module, so that several processes can share it."""

    def __init__(self, model: HubertSupernet, recipe: StageRecipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(
        self, wav: Tensor, lengths: Tensor, targets: Tensor, masked: Tensor | None, subnets: Sequence[Subnet]
    ) -> tuple[Tensor, int]:
        """The loss of each subnet and head, and the number of frames it is the mean of."""
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


def optimiser_of(model: HubertSupernet, recipe: StageRecipe) -> torch.optim.AdamW:
    """AdamW, fused into one pass over each weight; norms, biases and the mask embedding do not decay."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)


@dataclass
class Trainer:
    """Updates a supernet by a recipe. `within`: the sets of subnets that the randomly drawn one comes from."""

    model: HubertSupernet
    recipe: StageRecipe
    optimiser: torch.optim.AdamW
    group: Processes = field(default_factory=Processes)
    device: str = "cpu"
    within: Sequence[Feasible] = ()

    def __post_init__(self) -> None:
        losses = _Losses(self.model, self.recipe)
        self._losses: nn.Module = losses
        if self.group.count > 1:
            gpus = [torch.device(self.device)] if self.device.startswith("cuda") else None
            # subnets leave some weights unused
            self._losses = DistributedDataParallel(losses, device_ids=gpus, find_unused_parameters=True)

    def step(self, step: int, batch: Batch, utterances: int) -> StepRecord:
        """One update, on this process's share of a batch of `utterances`; what the log records of it."""
        before, recipe = time.monotonic(), self.recipe
        rng = np.random.default_rng([recipe.seed, recipe.stage, 1, step])
        lengths = self.group.in_order(batch.lengths.tolist())[:utterances]
        per_layer, frames, weights = self._forward(step, batch, lengths, rng)
        own = torch.tensor(float(frames if self.group.rank < utterances else 0), device=self.device)
        share = own / self.group.total(own.clone())
        everyones = self.group.total(per_layer.detach() * share)
        loss = (everyones * weights).sum(1).mean()
        if not torch.isfinite(loss):
            raise NasError(
                f"loss is {loss.item()} at step {step} of stage {recipe.stage}; recordings: {', '.join(batch.ids)}"
            )
        scale = self.group.count * share  # gradients are averaged over processes: 1 for a single one
        ((per_layer * weights).sum(1).mean() * scale).backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm)
        self.optimiser.step()
        return {
            "loss": round(loss.item(), 5),
            "layers": [round(value, 4) for value in everyones.mean(0).tolist()],
            "grad_norm": round(float(norm), 4),
            "seconds": round(time.monotonic() - before, 3),
            "audio_seconds": round(sum(lengths) / 16000, 1),
        }

    def _forward(
        self, step: int, batch: Batch, lengths: Sequence[int], rng: np.random.Generator
    ) -> tuple[Tensor, int, Tensor]:
        """Losses (subnets, K), the frames they are means of, and the weights of the K heads."""
        recipe, space, device = self.recipe, self.model.space, self.device
        subnets = [space.largest] if recipe.stage == 1 else step_subnets(space, recipe.sampler, rng, self.within)
        wav, targets = self._padded(batch, max(lengths))
        masked = self._masked(recipe.mask_prob_at(step), rng, lengths)
        for settings in self.optimiser.param_groups:
            settings["lr"] = recipe.learning_rate_at(step)
        self.optimiser.zero_grad(set_to_none=True)
        dtype = DTYPES[recipe.precision]
        with torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not None):
            per_layer, frames = self._losses(
                wav.to(device), batch.lengths.to(device), targets.to(device), masked, subnets
            )
        weights = torch.tensor(recipe.layer_weights[-targets.shape[2] :], device=device)
        return per_layer, frames, weights / weights.sum()

    def _padded(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
        """Waveforms and targets as long as the longest of all processes: group norm depends on the padding."""
        frames = self.model.space.network.frames(samples)
        wav = F.pad(batch.wav, (0, samples - batch.wav.shape[1]))
        return wav, F.pad(batch.targets, (0, 0, 0, 0, 0, max(0, frames - batch.targets.shape[1])))

    def _masked(self, prob: float, rng: np.random.Generator, lengths: Sequence[int]) -> Tensor | None:
        """This process's rows of the mask, which is drawn for all: (B, T), True where a frame is hidden."""
        if not prob:
            return None
        frames = [self.model.space.network.frames(length) for length in lengths]
        mask = torch.from_numpy(span_mask(rng, frames, max(frames), prob))
        rank, count = self.group.rank, self.group.count
        return (mask[rank::count] if rank < len(mask) else mask[:1]).to(self.device)


def train_step(
    model: HubertSupernet, recipe: StageRecipe, optimiser: torch.optim.AdamW, step: int, batch: Batch, device: str
) -> StepRecord:
    """One update in one process; what the log records of it."""
    return Trainer(model, recipe, optimiser, device=device).step(step, batch, len(batch.ids))
