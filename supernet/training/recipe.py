"""Settings of a training and of each of its stages: one source of defaults for Python and the command line.

The defaults are the measured ones of docs/log.md. Importing this imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from functools import partial

from search_spaces.budget import Budget
from search_spaces.errors import NasError
from search_spaces.settings import Settings, option

__all__ = ["LOSSES", "PRECISIONS", "SAMPLERS", "StageRecipe", "TrainSettings", "parse_layers"]

LOSSES = ("mse", "l1", "l1+cosine")
SAMPLERS = ("uniform", "sandwich")
PRECISIONS = ("fp32", "bf16", "fp16")

DATA = "Data"
OPTIMISATION = "Optimisation"
SUBNETS = "Which subnets are trained"
WHERE = "Where it runs"
_parse_budget = partial(Budget.parse, known=None)


@dataclass(frozen=True)
class StageRecipe:
    """Settings of one stage. Stage 1 trains the largest subnet, stage 2 the supernet.

    `in_place`: share of the largest subnet's predictions in the targets of the others (BigNAS has 1; 0 is the teacher
    alone). `ema`: decay of the running mean of the weights that is validated and kept; 0 for none. `budgets`: the
    randomly drawn subnet keeps one of them in turn; without budgets, each of its choices is uniform. `mask_prob`: share
    of masked frames, from `mask_from` of the steps on.
    """

    stage: int
    steps: int
    batch_seconds: float = 20.0
    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    mask_prob: float = 0.2
    mask_from: float = 0.6
    sampler: str = "sandwich"
    loss: str = "mse"
    in_place: float = 0.0
    ema: float = 0.0
    budgets: tuple[Budget, ...] = ()
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
        for name, known in (("sampler", SAMPLERS), ("loss", LOSSES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise NasError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}")
        if not (0 <= self.in_place <= 1 and 0 <= self.ema < 1):
            raise NasError(f"in_place must be in 0..1 and ema in 0..1 (below 1); got {self.in_place} and {self.ema}")
        if self.in_place and self.stage == 2 and self.sampler != "sandwich":
            raise NasError(f"in_place needs the largest subnet in each step: sampler sandwich; got {self.sampler!r}")

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

    def to_dict(self) -> dict[str, object]:
        """Plain values, as checkpoints and provenance keep them."""
        return {**asdict(self), "budgets": tuple(map(str, self.budgets))}


def parse_layers(text: str) -> tuple[tuple[int, ...], ...]:
    """`2,4,6` is three targets, `2+4+6` one: their mean."""
    try:
        return tuple(tuple(int(layer) for layer in word.split("+")) for word in text.split(","))
    except ValueError:
        raise NasError(f"--teacher-layers must be whole numbers such as 2,4,6 or 2+4+6; got {text!r}") from None


@dataclass(frozen=True)
class TrainSettings(Settings):
    """What `nas train` takes: both stages of a distillation."""

    teacher: str = option(help="Hugging Face folder: HuBERT, wav2vec 2.0, WavLM or Whisper.", group=DATA, path=True)
    audio: str = option(help="Manifest of speech with the splits train and dev.", group=DATA, path=True)
    out: str = option(help="Folder to write; run the same command again to continue.", group=DATA, output=True)
    targets: str | None = option(None, "Folder of the teacher's targets; default: in --out.", group=DATA, output=True)
    teacher_layers: str | None = option(None, "Hidden states to regress: 2,4,6; or 2+4+6, their mean.", group=DATA)
    space: str = option("hubert-tiny", "A named space, or a TOML file.", group=SUBNETS, path=True)
    init: str | None = option(
        None, "Trained supernet to start from: stage 2 only, in its own space.", group=SUBNETS, path=True
    )
    sampler: str = option(
        StageRecipe.sampler, "Subnets of a step in stage 2: uniform (LightHuBERT) or sandwich.", group=SUBNETS
    )
    budgets: tuple[Budget, ...] = option(
        (),
        "Stage 2 draws subnets within it; repeated, they take turns.",
        group=SUBNETS,
        flag="--budget",
        parse=_parse_budget,
    )
    in_place: float = option(
        StageRecipe.in_place,
        "Share of the largest subnet's predictions in the targets of the others.",
        group=SUBNETS,
        minimum=0,
        maximum=1,
    )
    stage1_steps: int = option(2600, "Steps of stage 1.", group=OPTIMISATION, minimum=1)
    stage2_steps: int = option(1700, "Steps of stage 2.", group=OPTIMISATION, minimum=1)
    batch_seconds: float = option(
        StageRecipe.batch_seconds, "Seconds of speech in a batch.", group=OPTIMISATION, minimum=1
    )
    learning_rate: float = option(
        StageRecipe.learning_rate, "Peak learning rate of stage 1.", group=OPTIMISATION, minimum=0
    )
    stage2_learning_rate: float = option(6e-4, "Peak learning rate of stage 2.", group=OPTIMISATION, minimum=0)
    mask_prob: float = option(
        StageRecipe.mask_prob, "Share of masked frames, late in each stage.", group=OPTIMISATION, minimum=0, maximum=1
    )
    mask_from: float = option(
        StageRecipe.mask_from, "Part of a stage's steps without a mask.", group=OPTIMISATION, minimum=0, maximum=1
    )
    loss: str = option(StageRecipe.loss, f"One of {', '.join(LOSSES)}.", group=OPTIMISATION)
    ema: float = option(
        StageRecipe.ema,
        "Decay of a running mean of the weights (0.999); 0: none.",
        group=OPTIMISATION,
        minimum=0,
    )
    precision: str = option(StageRecipe.precision, f"One of {', '.join(PRECISIONS)}.", group=OPTIMISATION)
    seed: int = option(StageRecipe.seed, "Seed of weights, batches, masks and subnets.", group=OPTIMISATION, minimum=0)
    device: str = option("cpu", "cpu or cuda.", group=WHERE)
    minutes: float | None = option(None, "Stop with a checkpoint after this long.", group=WHERE, minimum=0)

    def recipes(self) -> list[StageRecipe]:
        """Both stages; with `init`, stage 2 alone."""
        shared = {
            name: getattr(self, name)
            for name in (
                "batch_seconds", "mask_prob", "mask_from", "sampler", "loss", "in_place", "ema", "precision", "seed",
            )
        }  # fmt: skip
        first = StageRecipe(1, self.stage1_steps, learning_rate=self.learning_rate, **shared)
        second = StageRecipe(
            2, self.stage2_steps, learning_rate=self.stage2_learning_rate, budgets=self.budgets, **shared
        )
        return [second] if self.init is not None else [first, second]
