"""How far a subnet's predictions are from the teacher's hidden states, on calibration speech."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from search_spaces import CheckpointError, NasError, Space, Subnet
from supernet.audio import batches, load_audio, normalise, read_manifest
from supernet.calibration import Calibration
from supernet.distill import distillation_loss
from supernet.model import HubertSupernet

if TYPE_CHECKING:
    from supernet.export.base import Rounded
    from supernet.teacher import Teacher

__all__ = ["DistillationScore"]

_LEAST_TO_HOLD_OUT = 8


@dataclass(frozen=True)
class _Batch:
    """Front-end features (B, T, C), targets (B, T, K, dim) and a mask (B, T) or None where all have T frames."""

    features: Tensor
    targets: Tensor
    mask: Tensor | None

    @property
    def frames(self) -> int:
        return int(self.mask.sum()) if self.mask is not None else self.features.shape[0] * self.features.shape[1]


_Path = tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class _Walked:
    """What the subnet before left: its path, and for each batch its hidden states and heads' losses."""

    path: _Path
    states: list[tuple[Tensor, ...]]
    losses: list[dict[tuple[int, int], float]]

    @classmethod
    def nothing(cls, batches: int) -> _Walked:
        return cls((), [()] * batches, [{}] * batches)


def _path(space: Space, subnet: Subnet) -> _Path:
    """What each hidden state depends on, beside those before it: embed dim, then layer by layer."""
    layers = space.layers_of(subnet).items()
    return ((subnet.embed_dim, 0, 0.0), *((layer, heads, ratio) for layer, (heads, ratio) in layers))


class DistillationScore:
    """Teacher distance of subnets: mean squared error on standardised targets (lower is better; 1.0 knows nothing).

    The front end is the same for every subnet, so its features are computed once. What the targets are:

    - the supernet's own calibration (front-end features and the teacher's targets), the default where it has one;
    - `audio` (a manifest) and `teacher` (a Hugging Face folder): the teacher's hidden states at the heads' layers;
    - `audio` alone: what the LARGEST subnet of this supernet makes of it, through the prediction heads, or through
      a closed-form ridge regression (fitted on one half of the speech, scored on the other) where it has no heads.

    One utterance in four is set apart: `held_out` is the same score on those (None where there are under eight), for
    scoring the winners of a search on speech that had no part in it.

    Deterministic: the same weights and speech give the same numbers on the same device. float32 throughout.
    """

    name = "distillation"
    higher_is_better = False
    held_out: DistillationScore | None = None

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
        count = len(calibration.features)
        if count >= _LEAST_TO_HOLD_OUT:
            self.held_out = copy(self)
            self.held_out.source = f"{count // 4} utterances that the search did not hear"
            self.held_out._hear(_part(calibration, range(3, count, 4)), device)
            calibration = _part(calibration, [i for i in range(count) if i % 4 != 3])
        self._hear(calibration, device)

    def _hear(self, calibration: Calibration, device: str) -> None:
        """Takes the speech that is scored on."""
        frames = sum(len(features) for features in calibration.features)
        self.seconds = round(frames * self.model.space.network.hop / 16_000, 1)
        self.settings = {"speech": self.source, "seconds": self.seconds, "weights": self.model.fingerprint()}
        self._calibration, self._device = calibration, device
        self._batches = [_padded(calibration, rows, device) for rows in _rows(calibration)]

    @torch.no_grad()
    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        """One teacher distance for each subnet. Those with the same first layers share them, whatever their order."""
        paths = [_path(self.model.space, subnet) for subnet in subnets]
        scores, walked = [math.nan] * len(subnets), _Walked.nothing(len(self._batches))
        for i in sorted(range(len(subnets)), key=paths.__getitem__):
            walked = self._walk(subnets[i], paths[i], walked)
            scores[i] = self._ridge(walked.states) if not self.model.head_layers else self._distance(walked.losses)
        return scores

    @torch.no_grad()
    def of_export(self, subnet: Subnet, run: Rounded) -> float:
        """The same score of an export of `subnet` that rounds its weights.

        On recordings where the score was given some (`hears_front_end`), else from the front end's features on, which
        leaves out what the front end loses.
        """
        network, states = self.model.space.network, []
        waves = self._calibration.waves
        for rows in _rows(self._calibration):
            each = []
            for row in rows:
                features = self._calibration.features[row][None]
                samples = (features.shape[1] - 1) * network.hop + network.receptive_field
                each.append(run.encode(features, samples) if waves is None else run(waves[row][None]))
            levels = zip(*each, strict=True)
            padded = (pad_sequence([h[0] for h in level], batch_first=True).to(self._device) for level in levels)
            states.append(tuple(padded))
        if not self.model.head_layers:
            return self._ridge(states)
        with self.model.active(subnet):
            losses = [self._losses(batch, hidden, {}, 0) for batch, hidden in zip(self._batches, states, strict=True)]
        return self._distance(losses)

    @property
    def hears_front_end(self) -> bool:
        """Whether `of_export` runs whole exports, on recordings."""
        return self._calibration.waves is not None

    def _walk(self, subnet: Subnet, path: _Path, before: _Walked) -> _Walked:
        """Hidden states and heads' losses of `subnet`, starting where it parts from the one before."""
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path, before.path)))
        states, losses = [], []
        with self.model.active(subnet):
            for batch, known, known_losses in zip(self._batches, before.states, before.losses, strict=True):
                states.append(self.model.encode(batch.features, batch.mask, known=known[:shared]).hidden_states)
                losses.append(self._losses(batch, states[-1], known_losses, shared))
        return _Walked(path, states, losses)

    def _losses(
        self, batch: _Batch, states: tuple[Tensor, ...], known: dict[tuple[int, int], float], shared: int
    ) -> dict[tuple[int, int], float]:
        """The loss of each head, by (head, hidden state that it reads)."""
        found = {}
        for head, at in enumerate(self.model.head_positions()):
            if at < shared and (head, at) in known:
                found[head, at] = known[head, at]
            else:
                prediction = self.model.predict_head(head, states[at])
                loss = distillation_loss(self.model, [prediction], batch.targets[:, :, head : head + 1], batch.mask)
                found[head, at] = float(loss.double())
        return found

    def _distance(self, losses: Sequence[Mapping[tuple[int, int], float]]) -> float:
        frames = [batch.frames for batch in self._batches]
        means = [sum(each.values()) / len(each) for each in losses]
        return sum(mean * count for mean, count in zip(means, frames, strict=True)) / sum(frames)

    def _ridge(self, states: Sequence[tuple[Tensor, ...]]) -> float:
        """Share of the targets' variance that a ridge regression on the last hidden state does not explain."""
        x, y = [], []
        for batch, (*_, hidden) in zip(self._batches, states, strict=True):
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


def _part(calibration: Calibration, rows: Sequence[int]) -> Calibration:
    waves = None if calibration.waves is None else [calibration.waves[i] for i in rows]
    return Calibration([calibration.features[i] for i in rows], [calibration.targets[i] for i in rows], waves)


def _rows(calibration: Calibration) -> list[list[int]]:
    return list(batches([len(features) for features in calibration.features], 1600))


def _padded(calibration: Calibration, rows: list[int], device: str) -> _Batch:
    features = [calibration.features[row] for row in rows]
    lengths = torch.tensor([len(f) for f in features])
    longest = int(lengths.max())
    mask = None if bool((lengths == longest).all()) else (torch.arange(longest) < lengths[:, None]).to(device)
    return _Batch(
        pad_sequence(features, batch_first=True).to(device),
        pad_sequence([calibration.targets[row] for row in rows], batch_first=True).to(device),
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
    heard = [torch.from_numpy(normalise(wave)) for wave in waves]
    features = [model.front_end(wave[None].to(device))[0] for wave in heard]
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
    return Calibration([f.float().cpu() for f in features], targets, heard), source


def _check_heads(model: HubertSupernet, teacher: Teacher) -> None:
    if (len(teacher.layers), teacher.dim) != (len(model.head_layers), model.head_dim):
        raise CheckpointError(
            f"the supernet predicts {len(model.head_layers)} layers of width {model.head_dim}; "
            f"the teacher gives {len(teacher.layers)} of width {teacher.dim}"
        )
