"""How far a subnet's predictions are from the teacher's hidden states, on calibration speech."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from search_spaces import CheckpointError, NasError, Subnet
from supernet.audio import batches, load_audio, normalise, read_manifest
from supernet.calibration import Calibration
from supernet.distill import distillation_loss
from supernet.model import HubertSupernet

if TYPE_CHECKING:
    from supernet.teacher import Teacher

__all__ = ["DistillationScore"]


@dataclass(frozen=True)
class _Batch:
    """Front-end features (B, T, C), targets (B, T, K, dim) and a mask (B, T) or None where all have T frames."""

    features: Tensor
    targets: Tensor
    mask: Tensor | None

    @property
    def frames(self) -> int:
        return int(self.mask.sum()) if self.mask is not None else self.features.shape[0] * self.features.shape[1]


class DistillationScore:
    """Teacher distance of subnets: mean squared error on standardised targets (lower is better; 1.0 knows nothing).

    The front end is the same for every subnet, so its features are computed once. What the targets are:

    - the supernet's own calibration (front-end features and the teacher's targets), the default where it has one;
    - `audio` (a manifest) and `teacher` (a Hugging Face folder): the teacher's hidden states at the heads' layers;
    - `audio` alone: what the LARGEST subnet of this supernet makes of it, through the prediction heads, or through
      a closed-form ridge regression (fitted on one half of the speech, scored on the other) where it has no heads.

    Deterministic: the same weights and speech give the same numbers on the same device. float32 throughout.
    """

    name = "distillation"
    higher_is_better = False

    def __init__(
        self,
        model: HubertSupernet,
        device: str = "cpu",
        audio: Path | str | None = None,
        teacher: Path | str | None = None,
        split: str | None = None,
        seconds: float = 64.0,
    ) -> None:
        self.model = model.to(device).eval()
        if audio is not None:
            calibration, self.source = _from_manifest(self.model, device, Path(audio), teacher, split, seconds)
        elif model.calibration is not None:
            calibration, self.source = model.calibration, "calibration of the supernet"
        else:
            raise NasError(
                "this supernet brings no calibration speech: give a manifest of recordings (--audio manifest.jsonl)"
            )
        self.seconds = round(sum(len(f) for f in calibration.features) * model.space.network.hop / 16_000, 1)
        self.settings = {"speech": self.source, "seconds": self.seconds, "weights": self.model.fingerprint()}
        self._batches = [_padded(calibration, rows, device) for rows in _rows(calibration)]

    @torch.no_grad()
    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        """One teacher distance for each subnet."""
        return [self._one(subnet) for subnet in subnets]

    def _one(self, subnet: Subnet) -> float:
        with self.model.active(subnet):
            if not self.model.head_layers:
                return self._ridge()
            total, frames = 0.0, 0
            for batch in self._batches:
                predictions = self.model.predict(self.model.encode(batch.features, batch.mask).hidden_states)
                losses = distillation_loss(self.model, predictions, batch.targets, batch.mask)
                total += float(losses.double().mean()) * batch.frames
                frames += batch.frames
        return total / frames

    def _ridge(self) -> float:
        """Share of the targets' variance that a ridge regression on the last hidden state does not explain."""
        x, y = [], []
        for batch in self._batches:
            hidden = self.model.encode(batch.features, batch.mask).last_hidden_state
            keep = torch.ones(hidden.shape[:2], dtype=torch.bool) if batch.mask is None else batch.mask
            x.append(hidden[keep].double())
            y.append(batch.targets[:, :, 0][keep].double())
        if len(x) < 2:
            raise NasError("a supernet without prediction heads needs at least two batches of calibration speech")
        fit_x, fit_y, x_, y_ = torch.cat(x[::2]), torch.cat(y[::2]), torch.cat(x[1::2]), torch.cat(y[1::2])
        mean = fit_x.mean(0)
        gram = (fit_x - mean).T @ (fit_x - mean)
        gram += 1e-2 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        if not torch.isfinite(gram).all():
            return math.nan
        weights = torch.linalg.solve(gram, (fit_x - mean).T @ fit_y)
        return float((y_ - (x_ - mean) @ weights).square().mean() / y_.square().mean())


def _rows(calibration: Calibration) -> list[list[int]]:
    return list(batches([len(features) for features in calibration.features], 1600))


def _padded(calibration: Calibration, rows: list[int], device: str) -> _Batch:
    pad = torch.nn.utils.rnn.pad_sequence
    features = [calibration.features[row] for row in rows]
    lengths = torch.tensor([len(f) for f in features])
    longest = int(lengths.max())
    mask = None if bool((lengths == longest).all()) else (torch.arange(longest) < lengths[:, None]).to(device)
    return _Batch(
        pad(features, batch_first=True).to(device),
        pad([calibration.targets[row] for row in rows], batch_first=True).to(device),
        mask,
    )


@torch.no_grad()
def _from_manifest(
    model: HubertSupernet, device: str, audio: Path, teacher: Path | str | None, split: str | None, seconds: float
) -> tuple[Calibration, str]:
    """Calibration from recordings: front-end features, and targets of the teacher or of the largest subnet."""
    waves, total = [], 0.0
    for utterance in read_manifest(audio, split):
        if total >= seconds:
            break
        waves.append(load_audio(utterance.audio, model.space.network.receptive_field))
        total += len(waves[-1]) / 16_000
    features = [model.front_end(torch.from_numpy(normalise(wave))[None].to(device))[0] for wave in waves]
    if teacher is None:
        with model.active(model.space.largest):
            states = [model.encode(f[None]).hidden_states for f in features]
            raw = [
                torch.stack([p[0] for p in model.predict(s)], 1) if model.head_layers else s[-1][0].unsqueeze(1)
                for s in states
            ]
        source = f"{audio}, against the largest subnet"
    else:
        from supernet.teacher import load_teacher

        loaded = load_teacher(teacher, model.provenance.get("teacher_layers"), device)
        _check_heads(model, loaded)
        raw = [loaded([wave], len(f))[0].transpose(0, 1) for wave, f in zip(waves, features, strict=True)]
        source = f"{audio}, against teacher {Path(teacher).name}"
    frames = torch.cat(raw)
    mean, std = frames.mean(0), frames.std(0) + 1e-3
    targets = [((r - mean) / std).clamp(-4, 4).float().cpu() for r in raw]
    return Calibration([f.float().cpu() for f in features], targets), source


def _check_heads(model: HubertSupernet, teacher: Teacher) -> None:
    if (len(teacher.layers), teacher.dim) != (len(model.head_layers), model.head_dim):
        raise CheckpointError(
            f"the supernet predicts {len(model.head_layers)} layers of width {model.head_dim}; "
            f"the teacher gives {len(teacher.layers)} of width {teacher.dim}"
        )
