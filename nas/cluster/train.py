"""Training on a Ray cluster: Ray Train starts the processes and their group, and restarts them if one dies."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from nas.cluster.connection import check_resources, connected
from search_spaces import NasError
from search_spaces.types import JsonObject

__all__ = ["train_on_ray"]


def train_on_ray(
    train: Callable[[JsonObject], bool],
    settings: JsonObject,
    address: str,
    workers: int,
    cpus: float,
    gpu: bool,
) -> bool:
    """Calls `train(settings)` in `workers` processes that are one process group, each with `cpus` (and a GPU).

    `train` resumes from its own checkpoints in settings["out"], a folder that all nodes see. If a process dies, all are
    restarted, up to three times. Raises `NasError` if the cluster cannot hold the processes, and for user errors in a
    process.
    """
    with connected(address) as ray:
        check_resources(ray, workers, {"CPU": cpus, "GPU": float(gpu)}, wait=False)
        of_train = importlib.import_module("ray.train")
        trainer = importlib.import_module("ray.train.torch").TorchTrainer(
            _loop,
            train_loop_config={"train": train, "settings": settings},
            scaling_config=of_train.ScalingConfig(
                num_workers=workers, use_gpu=gpu, resources_per_worker={"CPU": cpus, **({"GPU": 1} if gpu else {})}
            ),
            run_config=of_train.RunConfig(
                name="ray-train", storage_path=settings["out"], failure_config=of_train.FailureConfig(max_failures=3)
            ),
        )
        trainer.fit()
    done = (Path(settings["out"]) / "supernet").exists()
    problem = Path(settings["out"]) / "ray-train" / "problem.txt"
    if problem.exists():
        message = problem.read_text(encoding="utf-8")
        problem.unlink()
        raise NasError(message)
    return done


def _loop(config: JsonObject) -> None:
    """The main function of each process. A user's error is written to a file: Ray would retry it like a crash."""
    try:
        config["train"](config["settings"])
    except NasError as error:
        folder = Path(config["settings"]["out"]) / "ray-train"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "problem.txt").write_text(str(error), encoding="utf-8")
