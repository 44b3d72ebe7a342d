"""Takes the group norm from a supernet's front end, and teaches it the mean spectrum that this norm had taken away.

    python -m benchmarks.front_end --supernet ckpt/supernet --space plain.toml --audio speech/manifest.jsonl --out new/

A norm over time makes all channels equally loud in each recording. Here its mean effect goes into the first
convolution, and Adam on 20 s of speech a step brings the features of every front end of the space close to those of
before. Then a linear map of the features has to give Whisper's log-mel spectrogram as well, at first with a small
weight. `nas train --init new/` makes the layers use it. For each phase and front end it prints the errors on dev: of
the features, of the spectrogram, and of its mean over two seconds, each as a share of the variance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._common import command_line, header
from search_spaces import get_space
from supernet import HubertSupernet, load_supernet
from supernet.audio import Utterance, load_audio
from supernet.checkpoint import save_supernet
from supernet.layers import LogMel
from supernet.training.batches import read_splits
from supernet.training.recipe import rate_at

SAMPLES, MELS = 32_080, 80  # 100 frames
PHASES = ((300, 2e-3, 0.0), (250, 2e-3, 0.5), (200, 3e-3, 4.0))
"""Steps, peak learning rate, weight of the spectrogram."""

Heard = Callable[[int], Tensor]


def crops(model: HubertSupernet, utterances: Sequence[Utterance]) -> Heard:
    """A function that gives two seconds of each of so many recordings (B, S), other ones every time."""
    rng = np.random.default_rng(0)
    long = [utterance for utterance in utterances if utterance.seconds >= 2.01]

    def order() -> Iterator[int]:
        while True:
            yield from rng.permutation(len(long)).tolist()

    rows = order()

    def heard(count: int) -> Tensor:
        waves = []
        for _ in range(count):
            wave = model.prepare(load_audio(long[next(rows)].audio))
            start = int(rng.integers(0, len(wave) - SAMPLES + 1))
            waves.append(wave[start : start + SAMPLES])
        return torch.from_numpy(np.stack(waves).astype(np.float32))

    return heard


@torch.no_grad()
def folded(old: HubertSupernet, space: str, wav: Tensor) -> HubertSupernet:
    """`old` in a network without the norm, whose mean effect on `wav` (B, S) goes into the first convolution."""
    new = HubertSupernet(get_space(space), old.head_layers, old.head_dim, old.frame_rule, prepare=old.prepare)
    new.provenance = dict(old.provenance)
    weights = new.state_dict()
    for name, value in old.state_dict().items():
        if name in weights:
            weights[name].copy_(value)
    norm, first = old.front_end.norm, new.front_end.convs[0]
    first.weight *= (norm.weight / old.front_end.convs[0](wav[:, None]).var((0, 2)).sqrt())[:, None, None]
    for conv in new.front_end.convs:
        conv.bias.zero_()
    first.bias.copy_(norm.bias)
    return new


def share(error: Tensor, of: Tensor) -> Tensor:
    """The mean square of `error` (B, T, C) as a share of the variance of `of`."""
    return error.square().mean() / (of - of.mean((0, 1))).square().mean()


@dataclass
class Fit:
    """Errors of the new front ends' features, and of the spectrogram that `head` reads from them."""

    old: HubertSupernet
    new: HubertSupernet
    mean: Tensor
    deviation: Tensor
    head: nn.Linear
    mel: LogMel

    @classmethod
    def of(cls, old: HubertSupernet, new: HubertSupernet, wav: Tensor) -> Fit:
        mel, channels = LogMel(MELS), old.space.network.conv_layers[-1][0]
        fit = cls(old, new, torch.zeros(MELS), torch.ones(MELS), nn.Linear(channels, MELS), mel)
        known = fit.spectrogram(wav, old.space.network.frames(wav.shape[1]))
        fit.mean, fit.deviation = known.mean((0, 1)), known.std((0, 1))
        return fit

    def spectrogram(self, wav: Tensor, frames: int) -> Tensor:
        """Standardised log-mel (B, T, mels), the mean of the two frames of 10 ms nearest to each of 20 ms."""
        mel, at = self.mel(wav).transpose(1, 2), 2 * torch.arange(frames)
        pair = mel[:, at + 1] + mel[:, (at + 2).clamp(max=mel.shape[1] - 1)]
        return (pair / 2 - self.mean) / self.deviation

    def errors(self, wav: Tensor, weight: float) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each front end: of the features (normed once the spectrogram counts), of its frames, of their mean."""
        found = []
        for front_end in self.new.space.front_ends:
            ours = self.new.features(wav, front_end)
            with torch.no_grad():
                before = self.old.features(wav, front_end)
                known = self.spectrogram(wav, ours.shape[1])
            normed = F.layer_norm(ours, ours.shape[-1:])
            read = F.linear(normed, self.head.weight[:, : ours.shape[-1]], self.head.bias)
            if weight:
                ours, before = normed, F.layer_norm(before, before.shape[-1:])
            means = (read - known).mean(1, keepdim=True), known.mean(1, keepdim=True)
            found.append((share(ours - before, before), (read - known).square().mean(), share(*means)))
        return found

    def run(self, phase: tuple[int, float, float], heard: Heard) -> None:
        """Adam with a warm-up and half a cosine; the head has three times the rate."""
        steps, peak, weight = phase
        front_end = list(self.new.front_end.parameters())
        adam = torch.optim.Adam([{"params": front_end}, {"params": self.head.parameters()}], betas=(0.9, 0.98))
        for step in range(steps):
            for group, times in zip(adam.param_groups, (1, 3), strict=True):
                group["lr"] = times * peak * rate_at(step, steps, floor=0.02)
            adam.zero_grad()
            torch.stack([a + weight * b for a, b, _ in self.errors(heard(10), weight)]).mean().backward()
            nn.utils.clip_grad_norm_([*front_end, *self.head.parameters()], 1.0)
            adam.step()


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--supernet", required=True)
    parser.add_argument("--space", required=True, help="The same, with conv_norm 'none' and conv_bias.")
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    old = load_supernet(args.supernet)
    train, dev = (crops(old, utterances) for utterances in read_splits(args.audio))
    held_out = dev(24)
    fit = Fit.of(old, folded(old, args.space, train(32)), train(64))
    for phase in PHASES:
        fit.run(phase, train)
        with torch.no_grad():
            errors = fit.errors(held_out, phase[2])
        for front_end, each in zip(fit.new.space.front_ends, errors, strict=True):
            print(
                f"{phase}: {front_end[0] if front_end else 'all'} channels: {' / '.join(f'{e:.3f}' for e in each)}",
                flush=True,
            )
    save_supernet(fit.new, args.out)
    print(header())


if __name__ == "__main__":
    main()
