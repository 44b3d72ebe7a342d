"""Settings of a training run and of its stages. Nothing here imports torch.

TrainSettings    what `nas train` takes
└── recipes()    a StageRecipe for each stage: what the training loop follows and what checkpoints keep
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from search_spaces import AdditiveCost, AdditiveTable, Budget, Feasible, NasError, Space
from search_spaces.settings import Settings, option

__all__ = [
    "BudgetedSubnets",
    "LOSSES",
    "OPTIMISERS",
    "PRECISIONS",
    "SAMPLERS",
    "SpecialiseSettings",
    "StageRecipe",
    "TrainSettings",
    "between",
    "budgeted_subnets",
    "parse_teacher_layers",
    "rate_at",
]

LOSSES = ("mse", "l1", "l1+cosine")
OPTIMISERS = ("adamw", "muon")
PRECISIONS = ("fp32", "bf16", "fp16")
SAMPLERS = ("uniform", "sandwich")
NEAR = 0.9
_COSTS = ("params", "macs")  # those that budgets of a training run may name


@dataclass(frozen=True)
class BudgetedSubnets:
    """A budget with the subnets of the trained space that keep it. Two are equal if their budgets are."""

    budget: Budget
    subnets: Feasible = field(compare=False, repr=False)


def budgeted_subnets(
    space: Space, budgets: Sequence[Budget], costs: Mapping[str, AdditiveCost]
) -> tuple[BudgetedSubnets, ...]:
    """For each budget, the subnets of `space` that keep it and use at least `NEAR` of it, by the tables in `costs`.

    Few subnets of a large space are near a limit by chance, and it is these that a search chooses from. If none is so
    near, all that keep the budget.
    Raises `InfeasibleError` for a budget that no subnet keeps, and `NasError` for one on a cost that is not in `costs`.
    """
    budgeted = []
    for budget in budgets:
        if budget.cost not in costs:
            raise NasError(f"unknown cost '{budget.cost}' in budget {budget}; known: {', '.join(costs) or 'none'}")
        table = costs[budget.cost].table
        limit = budget.of_largest(table.of(space.largest)).limit
        subnets = Feasible(space, [(table, limit)])
        subnets.sample(np.random.default_rng(0), 1)  # raises if there is none
        least = min(float(limit), float(table.of(space.largest))) * NEAR
        near = between(table, least, limit)
        budgeted.append(BudgetedSubnets(budget, near if near.count() else subnets))
    return tuple(budgeted)


def between(table: AdditiveTable, least: float, limit: float) -> Feasible:
    """The subnets that cost at least and at most so much."""
    space = table.space
    over = AdditiveTable(space, "unused", table.unit, -table.constant, tuple(-layer for layer in table.layers))
    return Feasible(space, [(table, limit), (over, int(-least) if isinstance(limit, int) else -least)])


@dataclass(frozen=True)
class StageRecipe:
    """Settings of one stage. Stage 1 trains the largest subnet, stage 2 the whole supernet.

    `batch_seconds`: seconds of speech in a batch, padding included. `warmup`: share of the steps before the learning
    rate reaches its peak. `mask_prob`: share of the frames to mask, from the share `mask_from` of the steps on.
    `in_place`: weight of the sandwich's largest subnet's predictions in the targets of the other subnets; the teacher
    has the rest (BigNAS uses 1, the default is the teacher alone). `ema`: decay of the running mean of the weights,
    which is what is validated and saved; 0: no mean. `budgets`: stage 2 draws its random subnet from those near one of
    them (`budgeted_subnets`), chosen at random in each step; without budgets each of its choices is uniform.
    `target_clip`: largest absolute value of a standardised target. `layer_weights`: weights of the heads in the loss,
    the last head last. `disturb`: the share of recordings that the student hears disturbed. `voice`: the extra weight
    of each recording's mean error (`distillation_loss`). `kl`, `ce`: weights of what the decoder makes of the output,
    given the text: its divergence from what it makes of the teacher's, and the cross-entropy, in nats a token.
    """

    stage: int
    steps: int
    batch_seconds: float = 20.0
    optimiser: str = "adamw"
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
    budgets: tuple[BudgetedSubnets, ...] = ()
    target_clip: float = 4.0
    layer_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    disturb: float = 0.0
    voice: float = 0.0
    kl: float = 0.0
    ce: float = 0.0
    precision: str = "bf16"
    seed: int = 0
    validate_every: int = 250
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if self.stage not in (1, 2) or self.steps < 1:
            raise NasError(
                f"a recipe needs stage 1 or 2 and at least one step; got stage={self.stage}, steps={self.steps}"
            )
        _check_choice("optimiser", self.optimiser, OPTIMISERS)
        _check_choice("sampler", self.sampler, SAMPLERS)
        _check_choice("loss", self.loss, LOSSES)
        _check_choice("precision", self.precision, PRECISIONS)
        if not (0 <= self.in_place <= 1 and 0 <= self.ema < 1):
            raise NasError(f"in_place must be in 0..1 and ema in 0..1 (below 1); got {self.in_place} and {self.ema}")
        if self.in_place and self.stage == 2 and self.sampler != "sandwich":
            raise NasError(
                f"in_place needs the largest subnet in each step, which sampler sandwich has; got {self.sampler!r}"
            )

    def to_dict(self) -> dict[str, object]:
        """Plain values by field, as checkpoints and provenance keep them: budgets are text."""
        values: dict[str, object] = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**values, "budgets": tuple(str(each.budget) for each in self.budgets)}

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up over `warmup` of the steps, then a half cosine down to 2 % of the peak."""
        return self.learning_rate * rate_at(step, self.steps, self.warmup, floor=0.02)

    def mask_prob_at(self, step: int) -> float:
        """0 up to `mask_from` of the steps, then `mask_prob`: masking from the start collapses (docs/log.md)."""
        return self.mask_prob if step >= self.mask_from * self.steps else 0.0


def rate_at(step: int, steps: int, warmup: float = 0.1, floor: float = 0.0) -> float:
    """The share of the peak rate that a step has: linear over `warmup` of the steps, then half a cosine to `floor`."""
    warm = max(1, round(warmup * steps))
    if step < warm:
        return (step + 1) / warm
    progress = (step - warm) / max(1, steps - warm)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise NasError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def parse_teacher_layers(text: str | None) -> tuple[tuple[int, ...], ...] | None:
    """The teacher's hidden states for each target: `2,4,6` gives three targets, `2+4+6` one, their mean."""
    if text is None:
        return None
    try:
        return tuple(tuple(int(layer) for layer in target.split("+")) for target in text.split(","))
    except ValueError:
        raise NasError(f"teacher_layers must be whole numbers such as 2,4,6 or 2+4+6; got {text!r}") from None


def _parse_budget(text: str) -> Budget:
    return Budget.parse(text, _COSTS)


DATA, MODEL, OPTIMISATION = "Data", "Model", "Optimisation"
KL = "Weight of the decoder's divergence from what it predicts with the teacher's output, given the text."
CE = "Weight of the decoder's cross-entropy of the text."
_SUBNETS, WHERE = "Sampling of subnets", "Where it runs"


@dataclass(frozen=True)
class TrainSettings(Settings):
    """What `nas train` takes. Defaults that a stage has too are those of `StageRecipe`."""

    audio: Path = option(help="Manifest of speech with the splits train and dev.", group=DATA, path=True)
    out: Path = option(
        help="Folder for checkpoints and the supernet; run the same command again to resume.", group=DATA, output=True
    )
    teacher: Path | None = option(
        None,
        "Hugging Face folder of the teacher: HuBERT, wav2vec 2.0, WavLM or Whisper. Default with --init: the "
        "supernet's own largest subnet as it is.",
        group=DATA,
        path=True,
    )
    space: str = option(
        "hubert-tiny", "Name of the supernet's space, or a .toml file.", group=MODEL, path=True, conflicts="init"
    )
    init: str | None = option(
        None, "Trained supernet to continue from, in its own space; trains stage 2 only.", group=MODEL, path=True
    )
    stage1_steps: int = option(
        2600, "Steps of stage 1, which trains the largest subnet.", group=OPTIMISATION, minimum=1, conflicts="init"
    )
    stage2_steps: int = option(1700, "Steps of stage 2, which trains all subnets.", group=OPTIMISATION, minimum=1)
    batch_seconds: float = option(
        StageRecipe.batch_seconds, "Seconds of speech in a batch, with padding.", group=OPTIMISATION, minimum=1
    )
    optimiser: str = option(
        StageRecipe.optimiser,
        "adamw, or muon for the matrices of the layers: from scratch it needs about half of the steps.",
        group=OPTIMISATION,
    )
    learning_rate: float = option(
        StageRecipe.learning_rate, "Peak learning rate of stage 1.", group=OPTIMISATION, minimum=0, conflicts="init"
    )
    stage2_learning_rate: float = option(6e-4, "Peak learning rate of stage 2.", group=OPTIMISATION, minimum=0)
    rates: tuple[float, ...] = option(
        (),
        "Peak learning rate of stage 2 to try for --sweep-steps, repeatable; the one with the least distances on dev "
        "is used.",
        flag="--try-rate",
        group=OPTIMISATION,
        minimum=0,
        needs="init",
    )
    sweep_steps: int = option(40, "Steps with each --try-rate.", group=OPTIMISATION, minimum=1, needs="rates")
    mask_prob: float = option(
        StageRecipe.mask_prob,
        "Share of frames to mask in the last part of each stage.",
        group=OPTIMISATION,
        minimum=0,
        maximum=1,
        needs="teacher",
    )
    mask_from: float = option(
        StageRecipe.mask_from,
        "Share of each stage's steps that are trained without a mask.",
        group=OPTIMISATION,
        minimum=0,
        maximum=1,
        needs="teacher",
    )
    disturb: float = option(
        StageRecipe.disturb,
        "Share of the recordings that the student hears with other speech, noise or reverberation, for the targets of "
        "the clean ones.",
        group=OPTIMISATION,
        minimum=0,
        maximum=1,
        needs="teacher",
    )
    voice: float = option(
        StageRecipe.voice,
        "How much more the mean error of each recording counts than its share of the frames' errors: it holds who "
        "speaks.",
        group=OPTIMISATION,
        minimum=0,
        needs="teacher",
    )
    layer_weights: tuple[float, ...] = option(
        (),
        "Weight of a target in the loss, repeatable: one for each of --teacher-layers. Default: all alike.",
        flag="--layer-weight",
        group=OPTIMISATION,
        minimum=0,
        needs="teacher",
    )
    sampler: str = option(
        StageRecipe.sampler,
        "Subnets of a step of stage 2: uniform (one at random, as LightHuBERT), or sandwich (the largest, the smallest "
        "and one at random).",
        group=_SUBNETS,
    )
    budgets: tuple[Budget, ...] = option(
        (),
        "Stage 2 draws its random subnets from those that use nine tenths or more of the budget, such as 'params<=27M' "
        "or 'params<=50%'; if repeated, each step draws from one of the budgets.",
        flag="--budget",
        group=_SUBNETS,
        parse=_parse_budget,
    )
    loss: str = option(StageRecipe.loss, "Loss against the targets: mse, l1 or l1+cosine.", group=OPTIMISATION)
    kl: float = option(StageRecipe.kl, KL, group=OPTIMISATION, minimum=0, needs="init")
    ce: float = option(StageRecipe.ce, CE, group=OPTIMISATION, minimum=0, needs="init")
    in_place: float = option(
        StageRecipe.in_place,
        "Weight of the largest subnet's predictions in the targets of the other subnets.",
        group=_SUBNETS,
        minimum=0,
        maximum=1,
    )
    ema: float = option(
        StageRecipe.ema,
        "Decay (below 1, such as 0.999) of a running mean of the weights, which is validated and saved; 0: no mean.",
        group=OPTIMISATION,
        minimum=0,
        maximum=1,
    )
    teacher_layers: str | None = option(
        None,
        "Hidden states of the teacher to predict: 2,4,6, or 2+4+6 for their mean. Default: three, spread over its "
        "depth.",
        group=MODEL,
        needs="teacher",
    )
    targets: Path | None = option(
        None,
        "Folder to keep the teacher's targets in. Default: targets in the output folder.",
        group=DATA,
        output=True,
        needs="teacher",
    )
    precision: str = option(StageRecipe.precision, "Precision of the forward pass: fp32, bf16 or fp16.", group=WHERE)
    device: str = option("cpu", "cpu, cuda, or one GPU such as cuda:1.", group=WHERE)
    seed: int = option(
        StageRecipe.seed, "Seed of the initial weights and of every random choice.", group=WHERE, minimum=0
    )
    minutes: float | None = option(None, "Write a checkpoint and stop after this many minutes.", group=WHERE, minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_teacher_layers(self.teacher_layers)
        if self.teacher is None and self.init is None:
            raise NasError("--teacher is missing: only a supernet given with --init can be its own teacher")
        if self.layer_weights and not any(self.layer_weights):
            raise NasError("--layer-weight: one at least must be over 0")
        for stage in (1, 2):
            self._recipe(stage, ())  # raises for values that no stage can have

    def recipes(self, budgeted: Sequence[BudgetedSubnets] = ()) -> tuple[StageRecipe, ...]:
        """The stages to train: both, or stage 2 alone with `init`. `budgeted`: `budgeted_subnets` of the budgets."""
        if tuple(each.budget for each in budgeted) != self.budgets:
            raise NasError(
                f"settings with {len(self.budgets)} budgets need the subnets that keep each of them; "
                f"got {len(budgeted)} sets of subnets"
            )
        recipes = self._recipe(1, ()), self._recipe(2, tuple(budgeted))
        return recipes if self.init is None else recipes[1:]

    def _recipe(self, stage: int, budgeted: tuple[BudgetedSubnets, ...]) -> StageRecipe:
        return StageRecipe(
            stage=stage,
            steps=self.stage1_steps if stage == 1 else self.stage2_steps,
            batch_seconds=self.batch_seconds,
            optimiser=self.optimiser,
            learning_rate=self.learning_rate if stage == 1 else self.stage2_learning_rate,
            mask_prob=0.0 if self.teacher is None else self.mask_prob,
            mask_from=self.mask_from,
            sampler=self.sampler,
            loss=self.loss,
            in_place=self.in_place,
            ema=self.ema,
            budgets=budgeted,
            layer_weights=self.layer_weights or StageRecipe.layer_weights,
            disturb=self.disturb,
            voice=self.voice,
            kl=self.kl,
            ce=self.ce,
            precision=self.precision,
            seed=self.seed,
        )


@dataclass(frozen=True)
class SpecialiseSettings(Settings):
    """What `nas specialise` takes beside the subnet and its supernet."""

    audio: Path = option(help="Manifest of speech with the splits train and dev.", group=DATA, path=True)
    teacher: Path | None = option(
        None,
        "What is imitated: the folder of the original model, or of the teacher that the supernet's heads predict. "
        "Default: the supernet's own largest subnet.",
        group=DATA,
        path=True,
    )
    finalists: int = option(
        1, "Of a run: so many of its best subnets are trained, and the best then is kept.", minimum=1
    )
    steps: int = option(300, "Training steps of each.", group=OPTIMISATION, minimum=1)
    learning_rate: float = option(5e-5, "Peak learning rate.", group=OPTIMISATION, minimum=0)
    batch_seconds: float = option(
        StageRecipe.batch_seconds, "Seconds of speech in a batch, with padding.", group=OPTIMISATION, minimum=1
    )
    kl: float = option(StageRecipe.kl, KL, group=OPTIMISATION, minimum=0)
    ce: float = option(StageRecipe.ce, CE, group=OPTIMISATION, minimum=0)
    precision: str = option("fp32", "Precision of the forward pass: fp32, bf16 or fp16.", group=WHERE)
    device: str = option("cpu", "cpu, cuda, or one GPU such as cuda:1.", group=WHERE)
    seed: int = option(0, "Seed of the order of the speech.", group=WHERE, minimum=0)
    minutes: float | None = option(None, "Write a checkpoint and stop after this many minutes.", group=WHERE, minimum=0)

    def recipe(self) -> StageRecipe:
        """Of stage 1: the largest subnet is the one of the space."""
        return StageRecipe(
            stage=1,
            steps=self.steps,
            batch_seconds=self.batch_seconds,
            learning_rate=self.learning_rate,
            mask_prob=0.0,
            kl=self.kl,
            ce=self.ce,
            precision=self.precision,
            seed=self.seed,
        )
