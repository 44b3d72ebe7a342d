"""A grid of searches as trials of Ray Tune: one whole search a trial, each in a run folder of its own.

sweep.json   the settings that all searches share, and the jobs by name
runs/NAME    the run folder of a job: the source of truth; finished work is never repeated
tune/        Tune's own tables (progress.csv, result.json of each trial) and state
report.html  all runs compared
"""

from __future__ import annotations

import importlib
import json
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from nas.cluster.connection import connected
from nas.runs.mirror import is_url
from search_spaces import NasError, RunError
from search_spaces.types import JsonObject

__all__ = ["grid", "read_jobs", "sweep"]

_NAME = re.compile(r"[\w.=@,-]{1,255}")
Report = Callable[[JsonObject], None]
Run = Callable[[JsonObject, str, Report], JsonObject]


def grid(
    budgets: Sequence[str], targets: Sequence[str], searchers: Sequence[str], seeds: Sequence[int]
) -> dict[str, JsonObject]:
    """Every combination, by a name that is fit for a folder.

    A budget may hold several limits, as in 'params<=27M and macs<=3G'. A target is appended to the latency limits of a
    budget: 'latency_ms<=20' on 'onnxruntime' is 'latency_ms<=20@onnxruntime'; other limits have no target.
    """
    jobs: dict[str, JsonObject] = {}
    for budget, target, searcher, seed in product(budgets or [""], targets or [""], searchers, seeds):
        limits = [part.strip() for part in budget.split(" and ") if part.strip()]
        limits = [f"{limit}@{target}" if target and limit.startswith("latency") else limit for limit in limits]
        name = re.sub(r"[^\w.=@,-]+", "-", "-".join([*limits, searcher, f"seed{seed}"]).replace("<=", "-"))
        jobs[name] = {"budgets": limits, "searcher": searcher, "seed": seed}
    return jobs


def read_jobs(data: bytes, source: str) -> dict[str, JsonObject]:
    """The jobs in a sweep.json by name. Raises `RunError` for anything else: names become folders."""
    try:
        jobs = json.loads(data)["jobs"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{source} is not that of a sweep: {error!r:.100}") from None
    if not isinstance(jobs, dict) or not all(isinstance(job, dict) for job in jobs.values()):
        raise RunError(f"{source} must hold an object of jobs")
    for name in jobs:
        if not _NAME.fullmatch(name) or set(name) == {"."}:
            raise RunError(f"{source}: a job's name must be a plain file name; got {name!r:.100}")
    return jobs


def sweep(
    jobs: Mapping[str, JsonObject],
    run: Run,
    out: str,
    address: str = "local",
    cpus: float = 1.0,
    gpus: float = 0.0,
    max_failures: int = 3,
) -> dict[str, JsonObject]:
    """Runs each job as a trial with `cpus` and `gpus`; the results of `run(job, folder, report)` by the job's name.

    `run` must continue from what the folder holds. A trial that dies, or whose node does, is retried `max_failures`
    times. Called again for the same `out`, a sweep continues: finished trials keep their result, the others
    are run again, on top of their folders. A `NasError` of one job is its result ("error"), and no reason to retry.
    """
    with connected(address) as ray:
        tune = importlib.import_module("ray.tune")
        if not is_url(out):
            out = str(Path(out).absolute())
            _check_seen(ray, Path(out))

        def trial(config: JsonObject) -> None:
            name = config["job"]
            try:
                matches = run(jobs[name], f"{out}/runs/{name}", tune.report)
            except NasError as error:
                matches = {"error": str(error)}
            tune.report({**matches, "finished": True})

        trainable = tune.with_resources(trial, {"CPU": cpus, "GPU": gpus})
        folder = f"{out}/tune"
        if tune.Tuner.can_restore(folder):
            tuner = tune.Tuner.restore(folder, trainable, resume_unfinished=True, restart_errored=True)
        else:
            tuner = tune.Tuner(
                trainable,
                param_space={"job": tune.grid_search(list(jobs))},
                tune_config=tune.TuneConfig(trial_dirname_creator=lambda trial: f"{trial.trial_id}"),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=out,
                    failure_config=tune.FailureConfig(max_failures=max_failures),
                    verbose=0,
                ),
            )
        results = tuner.fit()
        matches = {name: {"error": "was not finished"} for name in jobs}
        for result in results:
            metrics = result.metrics or {}
            name = (result.config or metrics.get("config", {})).get("job")
            if name in matches:
                own = {k: v for k, v in metrics.items() if k in ("score", "evaluations", "costs", "subnet", "error")}
                matches[name] = own if result.error is None else {"error": str(result.error).splitlines()[-1]}
        return matches


def _check_seen(ray: Any, out: Path) -> None:
    """Raises `RunError` if a node does not see the folder that trials will write to."""
    strategy = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    token = out / f".seen-{uuid.uuid4().hex}"
    out.mkdir(parents=True, exist_ok=True)
    token.touch()
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        sees = ray.remote(num_cpus=0)(os.path.exists)
        asked = [
            sees.options(scheduling_strategy=strategy(node["NodeID"], soft=False)).remote(str(token)) for node in nodes
        ]
        blind = [node["NodeManagerAddress"] for node, seen in zip(nodes, ray.get(asked)) if not seen]
    finally:
        token.unlink()
    if blind:
        raise RunError(
            f"{out} cannot be seen from {len(blind)} of {len(nodes)} nodes (the first: {blind[0]}): take a folder that "
            "all nodes share, or a URL such as s3://bucket/sweep"
        )
