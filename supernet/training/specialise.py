"""A chosen subnet trained alone, from its slice of the supernet."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

from search_spaces import RunError, Subnet
from search_spaces.files import read_text, write_json
from search_spaces.types import JsonObject
from supernet.calibration import save_calibration
from supernet.checkpoint import load_supernet, save_supernet
from supernet.companion import save_rest
from supernet.model import HubertSupernet
from supernet.training.batches import TrainingData, read_splits
from supernet.training.context import Progress, RunContext, ignore_progress
from supernet.training.distil import goal_of, teacher_of
from supernet.training.recipe import SpecialiseSettings
from supernet.training.stage import train_stage, validate

__all__ = ["specialise"]


def specialise(
    supernet: Path | str,
    subnets: Sequence[Subnet],
    out: Path,
    settings: SpecialiseSettings,
    progress: Progress = ignore_progress,
) -> JsonObject | None:
    """Trains each of `subnets` alone and keeps the best: its record, or None if the time was up before the end.

    `out/supernet` is a supernet of that subnet alone, `out/specialised.json` the record: distances from the teacher on
    dev before and after, of each; or the divergences of the decoder ("kl"), where it teaches. The best may be one as it
    was: "trained" is False then. Called again with the same arguments, it continues where it stopped.
    """
    started = time.monotonic()
    stop_after = math.inf if settings.minutes is None else 60 * settings.minutes
    recipe, goal = settings.recipe(), None
    train, dev = read_splits(settings.audio)
    rows: list[JsonObject] = []
    for subnet in subnets:
        model = load_supernet(supernet, device=settings.device)
        if goal is None:
            layers = model.provenance.get("teacher_layers")
            teacher = teacher_of(model, settings.teacher, layers, settings.device)
            goal = goal_of(model, teacher, out / "targets", train, dev, progress, bool(recipe.kl or recipe.ce))
        model.use_space(model.space.only(subnet))
        data, folder = TrainingData(train, dev, goal, model.heard), out / "finalists" / subnet.id
        before = _before(folder, model, data, settings)
        progress({"stage": recipe.stage, "steps": recipe.steps, "folder": str(folder)})
        left = stop_after - (time.monotonic() - started)
        if not train_stage(model, recipe, data, folder, RunContext(settings.device, progress, left)):
            return None
        after = _distance(model, data, settings)
        rows.append({"id": subnet.id, "subnet": subnet.to_dict(), "before": before, "after": after})
    best = min(rows, key=lambda row: min(float(row["before"]), float(row["after"])))
    trained = bool(best["after"] < best["before"])
    kept = load_supernet(out / "finalists" / best["id"] if trained else supernet)
    kept.use_space(kept.space.only(Subnet.from_dict(best["subnet"])))
    _save(kept, load_supernet(supernet), out / "supernet", recipe.steps if trained else 0)
    write_json(out / "subnet.json", best["subnet"])
    measure = "kl" if recipe.kl or recipe.ce else "distance"
    record: JsonObject = {**best, "trained": trained, "measure": measure, "supernet": str(supernet), "finalists": rows}
    record["settings"] = settings.to_dict()
    write_json(out / "specialised.json", record)
    return record


def _save(model: HubertSupernet, whole: HubertSupernet, folder: Path, steps: int) -> None:
    """Writes the specialised subnet with what else the supernet's folder had."""
    about = {"steps": steps, "weights_before": whole.fingerprint()}
    model.provenance = {**model.provenance, "specialised": about}
    save_supernet(model, folder)
    if whole.source is not None:
        save_rest(whole.source, folder)
    if whole.calibration is not None:
        save_calibration(whole.calibration, folder / "calibration.safetensors")


def _distance(model: HubertSupernet, data: TrainingData, settings: SpecialiseSettings) -> float:
    found = validate(model, data, settings.recipe(), settings.device)
    if "kl" in found:
        return sum(found["kl"].values())
    (values,) = found["dev"].values()
    return sum(values) / len(values)


def _before(folder: Path, model: HubertSupernet, data: TrainingData, settings: SpecialiseSettings) -> float:
    """The distance before training, measured once."""
    file = folder / "before.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, {"distance": _distance(model, data, settings)})
    try:
        return float(json.loads(read_text(file))["distance"])
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{file} is damaged: delete it") from None
