"""How far a subnet's predictions are from the teacher's hidden states, on calibration speech."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.scores.context import MAX_RECORDING_SECONDS, MIN_TO_HOLD_OUT, ScoreContext
from search_spaces import AudioError, CheckpointError, NasError, Subnet
from supernet.audio import load_audio, read_manifest
from supernet.calibration import CalibrationSpeech, kept_calibration
from supernet.hub import local_folder
from supernet.model import HubertSupernet
from supernet.shared import SharedEncoder, Speech
from supernet.training.losses import distillation_loss

if TYPE_CHECKING:
    from supernet.export.base import Rounded
    from supernet.teacher import Teacher

__all__ = ["DistillationScore", "Part", "make_distillation"]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
MAX_FRAMES_AT_ONCE = 4000  # 80 s: bounds the memory of hidden states that are branched from


class _Heads:
    """The targets of the supernet's prediction heads: (N, K, dim) of all frames, standardised.

    A head whose weight H (dim, D) has more rows than columns is written H = QR: |Hx - y|^2 is |Rx - Q'y|^2 plus what
    of y lies outside H's reach, which is the same for every x. So D numbers a frame are compared instead of `dim`.
    """

    def __init__(self, model: HubertSupernet, targets: Tensor) -> None:
        self.model, self.targets = model, targets
        self._reduced: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def error(self, k: int, hidden: Tensor) -> Tensor:
        """Squared error of head k on hidden states (N, D): the sum over frames of the mean over `dim`."""
        error, rest = self._errors(k, hidden)
        return (error.sum(dtype=torch.float64) + rest.sum()) / self.targets.shape[-1]

    def errors(self, k: int, hidden: Tensor) -> Tensor:
        """The same frame by frame: (N,)."""
        error, rest = self._errors(k, hidden)
        return (error + rest) / self.targets.shape[-1]

    def _errors(self, k: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The error within the head's reach, and the part of the targets outside it: (N,) each."""
        weight, target, rest = self._reduce(k, hidden.shape[-1])
        return (F.linear(hidden.float(), weight) - target).square_().sum(-1), rest

    def _reduce(self, k: int, D: int) -> tuple[Tensor, Tensor, Tensor]:
        if (k, D) not in self._reduced:
            weight, target = self.model.heads[k].weight[:, :D], self.targets[:, k]
            rest = torch.zeros(len(target), dtype=torch.float64, device=target.device)
            if len(weight) > D:
                q, r = torch.linalg.qr(weight.double())
                inside = target.double() @ q
                rest = target.double().square().sum(-1) - inside.square().sum(-1)
                weight, target = r.float(), inside.float()
            self._reduced[k, D] = weight.contiguous(), target.contiguous(), rest
        return self._reduced[k, D]


class _Output:
    """The last hidden state of the whole network, (N, 1, D) of all frames, as what a subnet's own should be.

    `std` (D,): the errors of each dim are in units of its standard deviation.
    """

    def __init__(self, targets: Tensor, std: Tensor) -> None:
        self.targets, self._std = targets / std, std

    def error(self, k: int, hidden: Tensor) -> Tensor:
        """Squared error of hidden states (N, D): the sum over frames of the mean over D."""
        return self.errors(k, hidden).sum(dtype=torch.float64)

    def errors(self, k: int, hidden: Tensor) -> Tensor:
        """The same frame by frame: (N,)."""
        return (hidden.float() / self._std - self.targets[:, k]).square_().mean(-1)

    def predictions(self, states: Sequence[Tensor]) -> list[Tensor]:
        """What is compared with `targets`, from hidden states (B, T, D)."""
        return [states[-1] / self._std]


@dataclass(frozen=True)
class Part:
    """Some of the speech, as much as is run at once."""

    calibration: CalibrationSpeech
    speech: Speech
    encoder: SharedEncoder
    heads: _Heads | _Output


class DistillationScore:
    """Teacher distance of subnets: mean squared error on standardised targets (lower is better; 1.0 knows nothing).

    The features of each front end are computed once. The targets are:

    - the supernet's own calibration (front-end features and the teacher's targets), the default if it has one;
    - `audio` (a manifest) and `teacher` (a Hugging Face folder): the teacher's hidden states at the heads' layers;
    - `audio` alone: the outputs of the LARGEST subnet of this supernet: of the prediction heads, or, if it has none,
      its last hidden state; subnets of several embed dims are compared with that through a closed-form ridge
      regression (fitted on one half of the speech, scored on the other).

    One utterance in four is set apart: `held_out` is the same score on those (None if there are under eight), for
    scoring the winners of a search on speech that had no part in it.

    Deterministic: the same weights and speech give the same numbers on the same device. The layers run in float32, or
    with `precision="bf16"` in bfloat16, faster on hardware that supports it: other numbers, nearly the same order.
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
        precision: str = "fp32",
        apart: tuple[CalibrationSpeech, str] | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise NasError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
        self.precision = precision
        self.model = model.to(device).eval()
        if apart is not None:
            calibration, self.source = apart
            self._use(calibration, device)
            return
        if audio is not None:
            calibration, self.source = _from_manifest(self.model, device, Path(audio), teacher, split, seconds)
        elif model.calibration is not None:
            calibration, self.source = model.calibration, "calibration of the supernet"
        else:
            raise NasError(
                "this supernet brings no calibration speech: give a manifest of recordings (--audio manifest.jsonl)"
            )
        count = len(calibration.features)
        if count >= MIN_TO_HOLD_OUT:
            source = f"{count // 4} utterances that the search did not use"
            apart = (calibration.part(range(3, count, 4)), source)
            self.held_out = type(self)(self.model, device, precision=precision, apart=apart)
            calibration = calibration.part([i for i in range(count) if i % 4 != 3])
        self._use(calibration, device)

    def _use(self, calibration: CalibrationSpeech, device: str) -> None:
        """Sets the speech that subnets are scored on."""
        self._layers = self.model.head_layers or (self.model.space.network.num_layers,)
        self._fitted = not self.model.head_layers and not _same_width(self.model)
        self._frames = sum(len(features) for features in calibration.features)
        self.seconds = round(self._frames * self.model.space.network.hop / 16_000, 1)
        self.settings: dict[str, object] = {
            "speech": self.source,
            "seconds": self.seconds,
            "weights": self.model.fingerprint(),
        }
        self._calibration, self._device = calibration, device
        if self.precision != "fp32":
            self.settings["precision"] = self.precision
        order = sorted(range(len(calibration.features)), key=lambda row: len(calibration.features[row]))
        self._parts = [self._made(calibration.part(rows), device) for rows in self._at_once(calibration, order)]

    def _made(self, calibration: CalibrationSpeech, device: str) -> Part:
        front_ends = self.model.space.front_ends
        speeches = {front_end: Speech(calibration.features_of(front_end), device) for front_end in front_ends}
        encoder = SharedEncoder(self.model, speeches, PRECISIONS[self.precision])
        targets = torch.cat(calibration.targets).to(device)
        if self.model.head_layers or self._fitted:
            return Part(calibration, encoder.speech, encoder, _Heads(self.model, targets))
        everything = torch.cat(self._calibration.targets).to(device)
        return Part(
            calibration, encoder.speech, encoder, _Output(targets, everything.double().std(0)[0].float() + 1e-3)
        )

    def _at_once(self, calibration: CalibrationSpeech, order: Sequence[int]) -> list[list[int]]:
        """`order` in parts of at most `MAX_FRAMES_AT_ONCE` frames (or one utterance); one part for a ridge."""
        parts: list[list[int]] = [[]]
        frames = 0
        for row in order:
            frames += len(calibration.features[row])
            if parts[-1] and frames > MAX_FRAMES_AT_ONCE and not self._fitted:
                parts.append([])
                frames = len(calibration.features[row])
            parts[-1].append(row)
        return parts

    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        """One teacher distance for each subnet. Shared layers are computed once, in any order of the subnets."""
        if self._fitted:
            (part,) = self._parts
            scores = part.encoder.read(subnets, self._layers, lambda _, hidden: self._ridge(hidden))
            return [score for (score,) in scores]
        if not subnets:
            return []
        return (self._errors(subnets, self._parts) / self._frames).mean(1).tolist()  # type: ignore[no-any-return]

    def _errors(self, subnets: Sequence[Subnet], parts: Sequence[Part]) -> Tensor:
        """Squared errors (subnets, K), summed over the frames of `parts`."""
        errors = [part.encoder.read(subnets, self._layers, part.heads.error) for part in parts]
        return torch.stack([torch.stack([torch.stack(row) for row in part]) for part in errors]).sum(0)

    def to(self, device: str) -> DistillationScore:
        """Itself, scoring on another device from now on."""
        self.model.to(device)
        self._use(self._calibration, device)
        if self.held_out is not None:
            self.held_out.to(device)
        return self

    @torch.no_grad()
    def one_by_one(self, subnets: Sequence[Subnet]) -> list[float]:
        """The same by the plain forward pass, with nothing shared: slow, and the reference for `__call__`."""
        return [self._plain(subnet) for subnet in subnets]

    @torch.no_grad()
    def of_export(self, subnet: Subnet, run: Rounded) -> float:
        """The same score of an export of `subnet` that rounds its weights.

        On recordings if the score has them (`hears_front_end`); else from the front end's features on, which leaves out
        the front end's own rounding.
        """
        network, errors = self.model.space.network, []
        with self.model.active(subnet):
            positions = self.model.head_positions() or [-1]
        for part in self._parts:
            calibration, each = part.calibration, []
            for row, features in enumerate(calibration.features_of(subnet.front_end)):
                if calibration.waves is None:
                    samples = (len(features) - 1) * network.hop + network.receptive_field
                    states = run.encode(features[None], samples)
                else:
                    states = run(calibration.waves[row][None])
                each.append([hidden[0].to(self._device) for hidden in states])
            if self._fitted:
                return self._ridge(torch.cat([states[-1] for states in each]))
            inputs = [torch.cat([states[at] for states in each]) for at in positions]
            errors.append(torch.stack([part.heads.error(k, hidden) for k, hidden in enumerate(inputs)]))
        return float((torch.stack(errors).sum(0) / self._frames).mean())

    @property
    def hears_front_end(self) -> bool:
        """Whether `of_export` runs whole exports, on recordings."""
        return self._calibration.waves is not None

    def _plain(self, subnet: Subnet) -> float:
        total = 0.0
        with self.model.active(subnet):
            for part in self._parts:
                states = [
                    self.model.encode(bucket).hidden_states
                    for bucket in part.encoder.speeches[subnet.front_end].buckets
                ]
                if self._fitted:
                    return self._ridge(torch.cat([hidden.flatten(0, 1) for *_, hidden in states]))
                predict = part.heads.predictions if isinstance(part.heads, _Output) else self.model.predict
                by_head = zip(*map(predict, states), strict=True)
                predictions = [torch.cat([p.flatten(0, 1) for p in each])[None] for each in by_head]
                losses = distillation_loss(predictions, part.heads.targets[None], None)
                total += float(losses.double().mean()) * part.speech.frames
        return total / self._frames

    def _ridge(self, hidden: Tensor) -> float:
        """Share of the targets' variance that a ridge regression on the last hidden state does not explain.

        Fitted on every second utterance, from the shortest; scored on the others.
        """
        (part,) = self._parts
        lengths = [bucket.shape[1] for bucket in part.speech.buckets for _ in bucket]
        if len(lengths) < 2:
            raise NasError("a supernet without prediction heads needs at least two utterances of calibration speech")
        x, y = (torch.split(rows.double(), lengths) for rows in (hidden, part.heads.targets[:, 0]))
        fit_x, fit_y, x_, y_ = (torch.cat(rows) for rows in (x[::2], y[::2], x[1::2], y[1::2]))
        mean = fit_x.mean(0)
        gram = (fit_x - mean).T @ (fit_x - mean)
        gram += 1e-2 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        if not torch.isfinite(gram).all():
            return math.nan
        weights = torch.linalg.solve(gram, (fit_x - mean).T @ fit_y)
        return float((y_ - (x_ - mean) @ weights).square().mean() / y_.square().mean())


def _same_width(model: HubertSupernet) -> bool:
    return model.space.output_dims == (model.space.network.width,)


def make_distillation(context: ScoreContext, argument: str | None) -> DistillationScore:
    """`distillation`, which rules subnets out early if the context wants that."""
    from evaluators.scores.successive import SuccessiveScore

    if argument is not None:
        raise NasError(f"the score distillation takes no argument; got 'distillation:{argument}'")
    make = SuccessiveScore if context.successive else DistillationScore
    return make(context.model, context.device, context.audio, context.teacher, precision=context.precision)


def _from_manifest(
    model: HubertSupernet, device: str, audio: Path, teacher: Path | str | None, split: str | None, seconds: float
) -> tuple[CalibrationSpeech, str]:
    """Calibration speech from recordings, cached by the weights, samples and teacher that it depends on."""
    waves, total, cut = [], 0.0, 0
    for utterance in read_manifest(audio, split):
        if total >= seconds:
            break
        cut += utterance.seconds > MAX_RECORDING_SECONDS
        wave = load_audio(utterance.audio, model.space.network.receptive_field, MAX_RECORDING_SECONDS)
        waves.append(wave)
        total += len(wave) / 16_000
    if not any(np.ptp(wave) for wave in waves):
        raise AudioError(f"every recording of {audio} that would be scored is silent: nothing can be told from it")
    if cut:
        warnings.warn(f"{cut} recordings of {audio} were cut to their first {MAX_RECORDING_SECONDS:g} s", stacklevel=2)
    samples = hashlib.sha256(b"".join(hashlib.sha256(wave.tobytes()).digest() for wave in waves)).hexdigest()
    files = sorted(local_folder(teacher).glob("*")) if teacher is not None else []
    files_of_teacher = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    layers = (model.head_layers, model.provenance.get("teacher_layers"))
    depends_on = (
        model.fingerprint(),
        model.space.largest,
        model.space.front_ends,
        layers,
        samples,
        model.prepare,
        _same_width(model),
        str(teacher),
        files_of_teacher,
        device,
    )
    calibration = kept_calibration(repr(depends_on), lambda: _calibration(model, device, waves, teacher))
    against = "the largest subnet" if teacher is None else f"teacher {Path(teacher).name}"
    prepared = [model.heard(wave) for wave in waves]
    return replace(calibration, waves=prepared), f"{audio}, against {against}"


@torch.no_grad()
def _calibration(
    model: HubertSupernet, device: str, waves: Sequence[npt.NDArray[np.float32]], teacher: Path | str | None
) -> CalibrationSpeech:
    """Front-end features, and targets of the teacher or of the largest subnet."""
    each = [model.features_of_each(model.heard(wave)[None].to(device)) for wave in waves]
    by_front_end = {front_end: [own[front_end][0] for own in each] for front_end in model.space.front_ends}
    features = by_front_end[model.space.largest.front_end]
    if teacher is None:
        with model.active(model.space.largest):
            states = [model.encode(f[None]).hidden_states for f in features]
            raw = [
                torch.stack([p[0] for p in model.predict(s)], 1) if model.head_layers else s[-1][0].unsqueeze(1)
                for s in states
            ]
    else:
        from supernet.teacher import load_teacher

        loaded = load_teacher(teacher, model.provenance.get("teacher_layers"), device)
        _check_heads(model, loaded)
        raw = [loaded([wave], len(f))[0].transpose(0, 1) for wave, f in zip(waves, features, strict=True)]
    if model.head_layers or teacher is not None or not _same_width(model):
        frames = torch.cat(raw)
        mean, std = frames.mean(0), frames.std(0) + 1e-3
        raw = [((r - mean) / std).clamp(-4, 4) for r in raw]
    targets = [r.float().cpu() for r in raw]
    kept = {front_end: [f.float().cpu() for f in own] for front_end, own in by_front_end.items()}
    return CalibrationSpeech.of(kept, targets)


def _check_heads(model: HubertSupernet, teacher: Teacher) -> None:
    if (len(teacher.layers), teacher.dim) != (len(model.head_layers), model.head_dim):
        raise CheckpointError(
            f"the supernet predicts {len(model.head_layers)} layers of width {model.head_dim}; "
            f"the teacher gives {len(teacher.layers)} of width {teacher.dim}"
        )
