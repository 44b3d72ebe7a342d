"""Calibrations: measured subnets of a space, with the machine and the versions they were measured on.

The model is fitted when a calibration is read, so that nothing in the file can disagree with it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.costs.latency.measure import (
    GROUP,
    MIN_ROUNDS,
    PASSES,
    WARM_UPS,
    Progress,
    Runners,
    Timings,
    measure,
)
from evaluators.costs.latency.model import LatencyModel, SpaceFeatures
from evaluators.costs.latency.target import Target, machine
from search_spaces import InfeasibleError, NasError, Space, Subnet, space_from_dict
from search_spaces.design import most_uncertain
from search_spaces.files import cache_folder, read_text, write_json
from search_spaces.types import JsonMapping, JsonObject

if TYPE_CHECKING:
    from supernet.model import HubertSupernet

__all__ = [
    "LatencyCalibration",
    "calibrate_latency",
    "design",
    "latency_calibration_file",
    "latency_calibrations",
    "require_possible",
]

FORMAT = "lighthubert-nas latency 1"
MEASUREMENTS = 100
MAX_MEASUREMENTS = 200
MIN_MEASUREMENTS = 12
FEWEST = 30  # measurements, however slow
SECONDS = 140.0  # of a calibration
_LEAN = 1.5
_PRIOR, _NOISE = np.array([1.0, 1e-3, 1e-4]), 1e-5  # variances of the features by block, and of a measurement


@dataclass(frozen=True, eq=False)
class LatencyCalibration:
    """Measured subnets of a space on one target, and where they were measured."""

    space: Space
    timings: Timings
    machine: JsonMapping
    versions: Mapping[str, str]
    made: str

    @property
    def target(self) -> Target:
        return self.timings.target

    @cached_property
    def model(self) -> LatencyModel:
        """The model of these measurements."""
        return LatencyModel(SpaceFeatures(self.space), self.timings.subnets, self.timings.ms)

    def summary(self) -> JsonObject:
        """The accuracy of its predictions, and the cost of each choice, as plain containers."""
        model, table = self.model, self.model.table()
        kinds = sorted({kind for choices in self.space.choices[: self.space.network.num_layers] for kind in choices})
        rows = []
        for D in self.space.embed_dims:
            ms = {f"{h}, {r:g}": float(model.features.layer(D, h, r) @ model.weights) for h, r in kinds}  # type: ignore[attr-defined]
            rest = float(np.mean(table.constant[self.space.embed_dims.index(D)]))
            rows.append({"embed_dim": D, "rest_ms": rest, "ms": ms})
        return {
            "space": self.space.name,
            "target": self.target.to_dict(),
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "made": self.made,
            "measurements": len(self.timings.subnets),
            "reference_ms": self.timings.reference_ms,
            "measurement_error": float(np.median(self.timings.error)),
            "left_out_mape": float(np.abs(model.errors).mean()),
            "margin": model.margin(),
            "confidence": model.confidence(),
            "range_ms": list(table.range()),
            "layer_ms": rows,
        }

    def to_dict(self) -> JsonObject:
        return {
            "format": FORMAT,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "made": self.made,
            "space": self.space.to_dict(),
            "timings": self.timings.to_dict(),
        }

    @classmethod
    def from_dict(cls, fields: Any, source: str = "this") -> LatencyCalibration:
        """The inverse of `to_dict`; raises `NasError` naming `source` for anything else."""
        try:
            if fields["format"] != FORMAT:
                raise ValueError(f"its format is {fields['format']!r}")
            space = space_from_dict(fields["space"])
            timings = Timings.from_dict(fields["timings"])
            for subnet in (*timings.subnets, timings.reference):
                space.check(subnet)
            if len(timings.subnets) < MIN_MEASUREMENTS:
                raise ValueError(f"it holds {len(timings.subnets)} subnets; {MIN_MEASUREMENTS} are needed")
            return cls(space, timings, dict(fields["machine"]), dict(fields["versions"]), str(fields["made"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise NasError(f"{source} is not a latency calibration: {error}") from None

    def save(self, file: Path) -> Path:
        """Writes the calibration, completely or not at all."""
        write_json(file, self.to_dict(), shared=True)
        return file

    @classmethod
    def load(cls, file: Path | str) -> LatencyCalibration:
        """The calibration in a file, of any machine."""
        try:
            fields = json.loads(read_text(file))
        except OSError as error:
            raise NasError(f"cannot read calibration {file}: {error.strerror or error}") from None
        except (ValueError, RecursionError) as error:
            raise NasError(f"{file} is not a latency calibration: {error}") from None
        return cls.from_dict(fields, str(file))

    def check_space(self, space: Space) -> None:
        """Raises `NasError` if it is of another space."""
        if self.space != space:
            raise NasError(
                f"the calibration is of space '{self.space.name}' ({self.space.size:,} subnets), and this is "
                f"'{space.name}' ({space.size:,}); run: nas latency calibrate"
            )

    def check(self, space: Space, target: Target) -> None:
        """Raises `NasError` if it is of another space, target, machine or software than the present ones."""
        again = "run: nas latency calibrate"
        self.check_space(space)
        if self.target != target:
            raise NasError(f"the calibration is of target '{self.target}', and this is '{target}'; {again}")
        for what, held, here in (
            ("machine", self.machine, machine(target.device)),
            ("software", self.versions, target.versions()),
        ):
            if dict(held) != here:
                raise NasError(
                    f"the calibration is of another {what} ({_facts(held)}) than this one ({_facts(here)}); {again}, "
                    f"or name its file as the target to search for that machine: 'latency_ms<=20@FILE.json'"
                )


def latency_calibrations() -> list[Path]:
    """The latency_calibrations that are kept."""
    return sorted(_folder().glob("*.json"))


def _folder() -> Path:
    return cache_folder() / "latency"


def latency_calibration_file(space: Space, target: Target) -> Path:
    """The cache file of a calibration: named after space, target, machine and software versions."""
    digest = hashlib.sha256(json.dumps(space.to_dict(), sort_keys=True).encode()).hexdigest()[:6]
    parts = [f"{space.name}-{digest}", str(target), _facts(machine(target.device)), _facts(target.versions())]
    name = "_".join(re.sub(r"[^A-Za-z0-9.,=-]+", "-", part).strip("-") for part in parts)
    return _folder() / f"{name}.json"


def _facts(facts: JsonMapping) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items())


def calibrate_latency(
    supernet: HubertSupernet,
    target: Target,
    measurements: int | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> LatencyCalibration:
    """Measures exported subnets of the supernet's space on this machine: a minute, or three where a network is slow.

    `measurements`: how many; by default `MEASUREMENTS`, of slow networks fewer, but no fewer than `FEWEST`.
    """
    if measurements is not None and not MIN_MEASUREMENTS <= measurements <= MAX_MEASUREMENTS:
        raise NasError(f"a calibration takes {MIN_MEASUREMENTS} to {MAX_MEASUREMENTS} measurements; got {measurements}")
    runners = Runners(supernet, target)
    count, passes, seconds = _plan(runners, supernet.space, measurements or MEASUREMENTS)
    count = measurements or count
    subnets = design(supernet.space, count, np.random.default_rng(seed))
    timings = measure(
        supernet, subnets, target, seed=seed, seconds=seconds, passes=passes, on_progress=on_progress, runners=runners
    )
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return LatencyCalibration(supernet.space, timings, machine(target.device), target.versions(), now)


def _plan(runners: Runners, space: Space, most: int) -> tuple[int, int, float]:
    """How many subnets to measure, in how many passes, and the seconds to spend on running them.

    By the time that the middle subnet takes to build and to run: everything should take about `SECONDS`.
    """
    runners(space.middle)  # makes the templates
    before = time.perf_counter()
    run = runners(space.middle)
    build = time.perf_counter() - before
    once = min(run() for _ in range(3)) / 1e3
    beside = 1 + 2 / GROUP  # the reference runs in each group
    fits = SECONDS / (beside * (build + (WARM_UPS + MIN_ROUNDS) * once))
    passes = PASSES if fits >= PASSES * most else PASSES - 1
    count = int(np.clip(fits / passes, min(FEWEST, most), most))
    runs = passes * count * beside * once
    return count, passes, float(np.clip(SECONDS - passes * count * beside * build, MIN_ROUNDS * runs, 90.0))


def design(space: Space, n: int, rng: np.random.Generator) -> list[Subnet]:
    """`n` different subnets to calibrate on (fewer if the space has fewer).

    The smallest and largest of each embed dim; then, of a pool, those of which a latency model is most uncertain, each
    after the ones before. Embed dims, depths and front ends of the pool are drawn at random, and its layers lean to few
    or many heads and to small or large FFNs: uniform draws have nearly the same sums, so the ends would be unknown.
    """
    ends = [replace(end, embed_dim=D) for D in space.embed_dims for end in (space.smallest, space.largest)]
    n = min(n, space.size)
    pool = dict.fromkeys(ends)
    for _ in range(20 * n):
        pool[_leaning_subnet(space, rng)] = None
        if len(pool) >= min(6 * n, space.size):
            break
    while len(pool) < n:
        pool[space.sample(rng)] = None
    subnets = list(pool)
    features = SpaceFeatures(space)
    x = features(subnets)
    x = x / np.maximum(np.abs(x).max(0), 1e-12) * np.sqrt(_PRIOR)[features.blocks]
    first = range(len(dict.fromkeys(ends)))
    return [subnets[i] for i in most_uncertain(x, n, first, _NOISE)]


def _leaning_subnet(space: Space, rng: np.random.Generator) -> Subnet:
    D = space.embed_dims[int(rng.integers(len(space.embed_dims)))]
    kept = space.depth_map[space.depths[int(rng.integers(len(space.depths)))]]
    lean = rng.uniform(-_LEAN, _LEAN, size=2)
    heads = tuple(int(_leaning(space.heads[i], lean[0], rng)) for i in kept)
    ratios = tuple(_leaning(space.ffn_ratios[i], lean[1], rng) for i in kept)
    return Subnet(D, heads, ratios, space.front_ends[int(rng.integers(len(space.front_ends)))])


def _leaning(choices: Sequence[float], lean: float, rng: np.random.Generator) -> float:
    """One of the choices, the greatest e^(2 lean) times as likely as the least."""
    weights = np.exp(lean * np.linspace(-1, 1, len(choices)))
    return sorted(choices)[int(rng.choice(len(choices), p=weights / weights.sum()))]


def require_possible(supernet: HubertSupernet, target: Target, limit_ms: float) -> None:
    """Raises `InfeasibleError` if even the space's smallest subnet is far over the limit: no need to calibrate."""
    smallest = supernet.space.smallest
    took = float(measure(supernet, [smallest], target, seconds=2.0, passes=1).ms[0])
    if took > 1.3 * limit_ms:
        raise InfeasibleError(
            f"no subnet of '{supernet.space.name}' keeps latency_ms<={limit_ms:g} on {target}; the fastest takes about "
            f"{took:.3g} ms (subnet {smallest.to_json()})"
        )
