"""How heads and subnets are trained on tasks: one source of defaults for Python and the command line. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from search_spaces import NasError
from search_spaces.settings import Settings, option

__all__ = ["FinetuneSettings", "FitSettings"]

TRAINING = "Training"


@dataclass(frozen=True)
class FitSettings(Settings):
    """How heads are trained. The learning rate is the first seed's best on dev; the other seeds take it.

    It rises over a tenth of the steps and falls by half a cosine to 0: at a constant rate, seeds differ more than
    subnets do (docs/log.md).
    """

    learning_rates: tuple[float, ...] = option(
        (1e-3, 1e-2), "Repeat for several: the best on dev is used.", group=TRAINING, flag="--learning-rate"
    )
    seeds: int = option(3, "Heads to train, with different seeds.", group=TRAINING)
    epochs: int = option(60, "Epochs of a head, over which its rate decays; the best on dev is kept.", group=TRAINING)
    batch: int = option(32, "Recordings in a batch.", group=TRAINING)

    def __post_init__(self) -> None:
        super().__post_init__()
        rates = self.learning_rates
        if not rates or not all(math.isfinite(rate) and rate > 0 for rate in rates):
            raise NasError(f"learning rates must be numbers above 0; got {', '.join(map(str, rates)) or 'none'}")
        for name in ("seeds", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise NasError(f"{name} must be at least 1; got {getattr(self, name)}")


@dataclass(frozen=True)
class FinetuneSettings(Settings):
    """How a subnet is fine-tuned. Warm-up over 10 % of the steps, then linear decay to 0."""

    steps: int = option(1000, "Steps.", group=TRAINING)
    learning_rate: float = option(1e-4, "Of the encoder; the head has ten times as much.", group=TRAINING)
    batch_seconds: float = option(32.0, "Seconds of speech in a batch.", group=TRAINING, minimum=1)
    seed: int = option(0, "Seed of the head and the batches.", group=TRAINING, minimum=0)
    validate_every: int = option(100, "Steps between validations.", group=TRAINING, minimum=1)
    checkpoint_every: int = option(50, "Steps between checkpoints.", group=TRAINING, minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise NasError(
                f"fine-tuning needs at least one step and a learning rate above 0; got {self.steps} and "
                f"{self.learning_rate}"
            )

    def part_at(self, step: int) -> float:
        """The share of the learning rate that a step has."""
        warm = max(1, round(0.1 * self.steps))
        return min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm))
