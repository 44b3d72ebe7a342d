"""`nas train`: distil a supernet from a teacher, here or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import typer

from nas.commands.common import note_of_precision, require_device
from nas.commands.console import TrainingProgress, err, out
from nas.commands.options import verb
from nas.commands.tracking import Tracking, TrackingSettings
from search_spaces import AdditiveCost, Space
from search_spaces.settings import Settings, option
from supernet.training.recipe import WHERE, TrainSettings

__all__ = ["app", "run_training"]

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class _ClusterSettings(Settings):
    ray: str | None = option(None, "Run on a Ray cluster: auto, host:port, or local.", group=WHERE)
    workers: int = option(1, "Processes on the cluster.", group=WHERE, needs="ray", minimum=1)
    cpus_per_worker: float = option(1.0, "CPU cores of each process.", group=WHERE, needs="ray", minimum=0)


@verb(
    app,
    example="nas train --teacher hubert-base/ --audio speech/manifest.jsonl --space lighthubert-small --out ckpt/",
    config=True,
)
def train(settings: TrainSettings, cluster: _ClusterSettings, tracking: TrackingSettings) -> None:
    """Distil a supernet from a teacher: stage 1 trains the largest subnet, stage 2 all of them.

    In several processes: torchrun --nproc-per-node N --no-python nas train …, or --ray auto --workers N.
    """
    settings = TrainSettings.from_dict(settings.to_dict())  # with absolute paths, for processes elsewhere
    try:
        if cluster.ray is None:
            finished = run_training(settings.to_dict(), tracking.log_to)
        else:
            from nas.cluster.train import train_on_ray

            gpu = settings.device != "cpu"
            each = partial(run_training, log_to=tracking.log_to)
            finished = train_on_ray(
                each, settings.to_dict(), cluster.ray, cluster.workers, cluster.cpus_per_worker, gpu
            )
    except KeyboardInterrupt:
        err.print(
            f"interrupted; run the same command again to continue from the last checkpoint in {settings.out}",
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    if finished:
        out.print(f"supernet: {settings.out / 'supernet'}", soft_wrap=True)
    else:
        out.print(f"stopped; run the same command again to continue ({settings.out})", soft_wrap=True)


def run_training(settings: dict[str, object], log_to: Sequence[str] = ()) -> bool:
    """The training that plain settings describe, as one of its processes; whether it is finished."""
    from supernet.training.distil import train as distil

    typed = TrainSettings.from_dict(settings)
    require_device(typed.device)
    note = note_of_precision(typed.device, typed.precision)
    with Tracking(log_to, typed.out, settings) as tracking, TrainingProgress(note) as progress:
        return distil(typed, _costs, tracking.beside(progress)) is not None


def _costs(space: Space) -> dict[str, AdditiveCost]:
    from evaluators.costs import macs, params

    return {"params": params(space), "macs": macs(space)}
