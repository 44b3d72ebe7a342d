"""A run folder: settings, ledger, front and best, held by one process at a time.

run.json       every setting and version
ledger.jsonl   the evaluations: the truth
front.json     rebuilt from the ledger when the search ends
best.json      the chosen subnet: costs, score, the budgets it keeps, and verification measurements
lock           names the process that holds the folder; the lock itself dies with the process, even by kill -9
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from nas.runs.ledger import Evaluation, Ledger, read_ledger
from search_spaces import NasError, RunError
from search_spaces.files import read_text, write_json
from search_spaces.types import JsonMapping, JsonObject

__all__ = ["RunFolder", "read_run", "read_settings", "summed_up"]

_KINDS: dict[str, type] = {
    "space": dict,
    "searcher": str,
    "budgets": list,
    "objectives": list,
    "maximize": bool,
    "costs": list,
    "score": dict,
    "seed": int,
    "batch": int,
    "evals": int,
    "planned_evals": int,
    "space_size": int,
    "space_fits": int,
}
_COMPARED = (
    "space", "searcher", "budgets", "objectives", "maximize", "costs", "score", "seed", "batch", "asynchronous",
    "only_uniform", "held_out_winner",
)  # fmt: skip


class RunFolder:
    """`with RunFolder(path, settings, resume) as run`: holds the folder; `run.ledger` and `run.settings` are open.

    A new run needs a folder that is missing or empty. A resumed one needs the same settings, save that `evals` may
    be raised. Raises `RunError` otherwise, and never deletes anything.
    """

    ledger: Ledger

    def __init__(self, path: str | os.PathLike[str], settings: JsonMapping, resume: bool = False) -> None:
        self.path = Path(path)
        self.settings: JsonObject = dict(settings)
        self._resume = resume
        self._lock: int | None = None

    def __enter__(self) -> RunFolder:
        if self._resume:
            read_settings(self.path)  # raises before a folder or lock is made
        self._take_lock()
        try:
            self._begin()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ledger.close()
        self._release()

    def finish(self, best: Evaluation | None, front: Sequence[Evaluation], results: JsonMapping) -> None:
        """Writes front.json, best.json if there is a best, and the `results` into run.json.

        If no candidate kept its budgets when measured again there is no best, and best.json is removed.
        """
        self.settings |= results
        _write(self.path / "run.json", self.settings)
        _write(self.path / "front.json", [_chosen(evaluation) for evaluation in front])
        if best is not None:
            verification = results.get("verification") or {"candidates": []}
            measured = [each["budgets"] for each in verification["candidates"] if each["index"] == best.index]
            record = {**_chosen(best), "budgets": self.settings["budgets"], **_weights(self.settings)}
            _write(self.path / "best.json", {**record, **({"measured": measured[0]} if measured else {})})
        elif results.get("verification"):
            (self.path / "best.json").unlink(missing_ok=True)

    def _begin(self) -> None:
        if self._resume:
            self.settings = _continued(self.path, read_settings(self.path), self.settings)
            if self.settings["evals"] > len(read_ledger(self.path / "ledger.jsonl", self.settings["costs"])):
                for name in ("best.json", "front.json"):  # no longer the best once more evaluations are made
                    (self.path / name).unlink(missing_ok=True)
        else:
            result = sorted(entry.name for entry in self.path.iterdir() if entry.name not in ("lock", ".run.json.tmp"))
            if result:
                raise RunError(
                    f"{self.path} is not empty (it holds {result[0]}): continue with --resume, or take another folder"
                )
        _write(self.path / "run.json", self.settings)
        self.ledger = Ledger(self.path / "ledger.jsonl", self.settings["costs"], self._check_lock)

    def _take_lock(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._lock, 0)
            os.write(self._lock, f"{os.getpid()}\n".encode())
        except BlockingIOError:
            assert self._lock is not None
            holder = os.read(self._lock, 20).decode().strip()
            self._release()
            raise RunError(f"run folder {self.path} is in use by process {holder or '(unknown)'}") from None
        except OSError as error:
            self._release()
            raise RunError(f"cannot use {self.path} as a run folder: {error.strerror or error}") from None

    def _check_lock(self) -> None:
        """Raises `RunError` if the lock file was deleted: another process could hold the folder too."""
        try:
            held = self._lock is not None and os.path.samestat((self.path / "lock").stat(), os.fstat(self._lock))
        except OSError:
            held = False
        if not held:
            raise RunError(f"{self.path / 'lock'} was deleted or replaced during the search: the run is no longer safe")

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def read_run(folder: str | os.PathLike[str]) -> tuple[JsonObject, list[Evaluation]]:
    """The settings and evaluations of the run in `folder`; reads only, so the run may still be in progress."""
    settings = read_settings(folder)
    return settings, read_ledger(Path(folder) / "ledger.jsonl", settings["costs"])


def read_settings(path: str | os.PathLike[str]) -> JsonObject:
    """The settings in a folder's run.json; raises `RunError` if there is none, or it cannot be read."""
    file = Path(path) / "run.json"
    try:
        settings = json.loads(read_text(file))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path} holds no run: there is no {file}") from None
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file} is broken: {error}") from None
    wrong = _wrong(settings)
    if wrong:
        raise RunError(f"{file} is not the settings of a run: {wrong}")
    return dict(settings)


def _wrong(settings: Any) -> str | None:
    """Why `settings` are not those of a run, for an error message; None if they are."""
    if not isinstance(settings, dict):
        return f"it is a {type(settings).__name__}"
    for key, kind in _KINDS.items():
        if key not in settings:
            return f"it has no {key}"
        if type(settings[key]) is not kind:
            return f"its {key} is {settings[key]!r}"
    for key in ("space", "score"):
        if not isinstance(settings[key].get("name"), str):
            return f"its {key} has no name"
    for key in ("budgets", "objectives", "costs"):
        if not all(isinstance(each, str) for each in settings[key]):
            return f"its {key} are {settings[key]!r}"
    known = settings.get("warm_start", {"evaluations": 0})
    if not isinstance(known, dict) or type(known.get("evaluations")) is not int:
        return f"its warm_start is {known!r}"
    named = [*settings["objectives"][1:], settings.get("front_cost", "")]
    unknown = [cost for cost in named if cost is not None and cost not in settings["costs"]]
    return f"it names the cost {unknown[0]!r}, and has {settings['costs']}" if unknown else None


def _write(path: Path, data: object) -> None:
    """Writes a file of a run; raises `RunError` with what to do if it cannot."""
    try:
        write_json(path, data)
    except NasError as error:
        raise RunError(f"{error}; evaluations in the ledger are safe: make room, then continue with --resume") from None


def _continued(path: Path, old: JsonObject, new: JsonMapping) -> JsonObject:
    """The settings of a resumed run: the old ones, with the new number of evaluations and the caller's own."""
    wanted = json.loads(json.dumps(new, default=str))  # as run.json spells them: lists, string keys
    for key in _COMPARED:
        before = old.get(key, False)  # runs of before there was an asynchronous mode are not asynchronous
        if before != wanted.get(key, False):
            raise RunError(f"{path} cannot be resumed with another {_difference(key, before, wanted.get(key, False))}")
    if wanted["evals"] < old["evals"]:
        raise RunError(f"{path} was planned with evals={old['evals']}; resume may only raise it; got {wanted['evals']}")
    again = {key: wanted[key] for key in ("command", "versions", "started")}
    latest = {key: wanted[key] for key in ("evals", "settings")}
    if wanted["evals"] > old["evals"]:  # the results are no longer final
        old = {key: value for key, value in old.items() if key not in ("effects", "trust", "uniform", "holdout")}
    return {**old, **latest, "resumed": [*old.get("resumed", []), again]}


def _difference(key: str, old: Any, new: Any) -> str:
    """`key: it was ..., now ...`, down to the first entry that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *new]:
            if old.get(name) != new.get(name):
                return _difference(f"{key}.{name}", old.get(name), new.get(name))
    return f"{key}: it was {json.dumps(old)}, now {json.dumps(new)}"


def _weights(settings: JsonMapping) -> JsonObject:
    """Which weights a best.json is of, if the run knows: see `nas.commands.identity`."""
    identity = settings.get("settings", {}).get("identity")
    return {"weights": identity["supernet"]} if isinstance(identity, dict) and "supernet" in identity else {}


def summed_up(evaluation: Evaluation | None) -> JsonObject | None:
    """A subnet with its score and costs, for run.json."""
    return None if evaluation is None else {key: _chosen(evaluation)[key] for key in ("subnet", "id", "score", "costs")}


def _chosen(evaluation: Evaluation) -> JsonObject:
    fields = evaluation.to_dict()
    return {key: fields[key] for key in ("subnet", "id", "costs", "score", "index")}
