"""What `nas compress` reached: original, best uniform subnet, winner and specialised one, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nas.commands.console import out, table
from nas.report.formatting import interval_text
from search_spaces import Budget, Subnet
from search_spaces.files import read_text
from search_spaces.types import JsonMapping, JsonObject

if TYPE_CHECKING:
    from supernet import HubertSupernet

__all__ = ["show", "summed_up"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Row:
    name: str
    supernet: Path
    subnet: Subnet
    score: float | None = None


def summed_up(
    budget: Budget,
    place: Path,
    converted: Path,
    trained: Path,
    shipped: tuple[Path, Subnet],
    audio: Path,
    target: str | None,
    device: str,
    progress: Progress,
    recordings: int,
) -> JsonObject:
    """Costs, score, latency and, for a Whisper with texts, error rates of each beside those of the original."""
    from evaluators.tasks.recognition import kept_recognition
    from nas.report.run import read_report
    from supernet import load_supernet

    run = read_report(place / "search")
    original = load_supernet(converted)
    best = run.best
    assert best is not None
    rows = [_Row("original", converted, original.space.largest)]
    if run.uniform is not None:
        rows.append(_Row("best uniform", trained, run.uniform.subnet, run.uniform.score))
    rows.append(_Row("winner", trained, best.subnet, best.score))
    if shipped[0] != trained:
        rows.append(_Row("specialised", *shipped))
    record: JsonObject = {"budget": str(budget), "score": run.score, "rows": _costs(original, rows)}
    _add_dev(record, place / "specialised" / "specialised.json")
    if target is not None:
        _measure(original, rows, target, record)
    if original.source is not None:
        kept = partial(kept_recognition, manifest=audio, device=device, progress=progress, recordings=recordings)
        _recognise(rows, kept, record, place)
    return record


def _costs(model: HubertSupernet, rows: list[_Row]) -> list[JsonObject]:
    from evaluators.costs import macs, params

    longest = model.space.network.max_samples
    seconds = 10.0 if longest is None else min(10.0, longest / 16_000)
    count, work = params(model), macs(model.space, seconds)
    return [
        {
            "name": row.name,
            "id": row.subnet.id,
            "heads": list(row.subnet.heads),
            "ffn_dims": list(row.subnet.ffn_dims),
            "params": count.of(row.subnet),
            "macs": work.of(row.subnet),
            "macs_seconds": seconds,
            "score": row.score,
        }
        for row in rows
    ]


def _add_dev(record: JsonObject, file: Path) -> None:
    """How far the winner, and then the specialised one, are from the original on dev: as training measures it."""
    if not file.exists():
        return
    special = json.loads(read_text(file))
    record["dev_measure"], before = special["measure"], {each["id"]: each["before"] for each in special["finalists"]}
    for row in record["rows"]:
        if row["name"] in ("winner", "specialised"):
            row["dev"] = before.get(row["id"])
        if row["name"] == "specialised" and special["trained"]:
            row["dev"] = special["after"]


def _measure(model: HubertSupernet, rows: list[_Row], target: str, record: JsonObject) -> None:
    from evaluators.costs.latency.measure import measure
    from evaluators.costs.latency.target import Target

    on = Target.parse(target)
    on.check_here()
    subnets = list(dict.fromkeys(row.subnet for row in rows))
    timings = measure(model, subnets, on, shipped=True)
    record["target"] = str(on)
    for own, row in zip(record["rows"], rows, strict=True):
        own["latency_ms"] = float(timings.ms[subnets.index(row.subnet)])


def _recognise(rows: list[_Row], kept: Callable[..., JsonObject], record: JsonObject, place: Path) -> None:
    """Error rates on the manifest's split test; of the original once for all budgets."""
    from evaluators.tasks.recognition import compared
    from search_spaces import AudioError

    folder, first = place.parent / "evaluated", None
    for own, row in zip(record["rows"], rows, strict=True):
        file = (folder if row.name == "original" else place / "evaluated") / f"{row.name.replace(' ', '-')}.json"
        try:
            result = kept(file, row.supernet, row.subnet)
        except AudioError as error:
            record["not_evaluated"] = str(error)
            return
        first = first or result
        own["results"], own["groups"] = result["results"], result["groups"]
        if row.name != "original":
            own["over_original"] = compared(result, first)["results"]


def show(record: JsonMapping) -> None:
    """The results of each budget, of what was measured: a table of sizes and scores, and one of error rates."""
    for each in record["budgets"]:
        title = f"{record['model']} within {each['budget']}"
        for parts in (_sizes, _errors):
            rows = [parts(row, each) for row in each["rows"]]
            heads = [head for head in rows[0] if any(cells[head] for cells in rows)]
            if not heads:
                continue
            shown = table(title, ["", *heads])
            for row, cells in zip(each["rows"], rows, strict=True):
                shown.add_row(row["name"], *(cells[head] or "—" for head in heads))
            out.print(shown)
            title = ""
        if "not_evaluated" in each:
            out.print(f"not evaluated: {each['not_evaluated']}", soft_wrap=True)


def _sizes(row: JsonMapping, of: JsonMapping) -> dict[str, str]:
    """Cells by their heads; empty if it was not measured."""
    return {
        "params": f"{row['params'] / 1e6:.2f}M",
        "MACs": f"{row['macs'] / 1e9:.2f}G",
        "ms": _number(row.get("latency_ms"), 1),
        "score": _number(row["score"], 4),
        f"dev {of.get('dev_measure', '')}": _number(row.get("dev"), 4),
    }


def _errors(row: JsonMapping, of: JsonMapping) -> dict[str, str]:
    results = row.get("results", {})
    return {
        "WER": _figure(results.get("wer")),
        "CER": _figure(results.get("cer")),
        "CER over the original": _figure(row.get("over_original", {}).get("cer")),
    }


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _figure(figure: JsonMapping | None) -> str:
    return "" if figure is None else interval_text(figure).replace(" (", "\n(")
