"""The ledger of a run: one JSON line for each evaluation, append-only. Everything else is rebuilt from it.

Each line holds a CRC-32 of itself, so that a changed digit is noticed; lines of earlier versions have none and are read
without. Lines are written and fsynced chunk by chunk. A crash can only tear the end off the last line: a torn end is
cut when the ledger is next opened, and its evaluation is made again. A line that is broken anywhere else is not the
result of a crash, so it is refused rather than guessed at.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces import RunError, Subnet
from search_spaces.files import read_bytes, require_file
from search_spaces.types import JsonMapping, JsonObject, Number

__all__ = ["Evaluation", "Ledger", "evaluation_of", "read_ledger"]


_SCORED = ("ok", "ruled out")
_STATUSES = (*_SCORED, "failed", "over budget")
_KINDS: dict[str, type | tuple[type, ...]] = {
    "index": int,
    "costs": dict,
    "error": (str, type(None)),
    "seconds": (int, float),
    "at": str,
    "origin": str,
}
_CHECKSUM = "crc"
_KEYS = ("index", "id", "subnet", "costs", "score", "status", "error", "seconds", "at")


@dataclass(frozen=True, repr=False)
class Evaluation:
    """A subnet with its costs and score, and how and when they were obtained.

    `status` is "ok"; "ruled out", for a subnet that cannot be the best, but whose score the searcher learns from: it is
    an estimate, or of a warm start and over a budget; "failed" (`error` has the reason, in one line); or "over budget",
    for a subnet whose measured cost was over: it has no score. `at` is the UTC time, ISO 8601; `seconds` the duration.
    `origin` names where the evaluation was made, if it came with a warm start; None for one of this search.
    """

    index: int
    subnet: Subnet
    costs: Mapping[str, Number]
    score: float | None
    status: str = "ok"
    error: str | None = None
    seconds: float = 0.0
    at: str = ""
    origin: str | None = None

    def __repr__(self) -> str:
        """A call that makes it, without when and how long: Evaluation(3, Subnet(...), {'params': 2498112}, 0.51)."""
        more = {"status": self.status, "error": self.error, "origin": self.origin}
        more = {name: value for name, value in more.items() if value not in (None, "ok")}
        words = "".join(f", {name}={value!r}" for name, value in more.items())
        return f"Evaluation({self.index}, {self.subnet!r}, {dict(self.costs)}, {self.score!r}{words})"

    @property
    def ok(self) -> bool:
        """Whether it may be the best, or on the front."""
        return self.status == "ok"

    @property
    def scored(self) -> bool:
        """Whether something can be learned from its score."""
        return self.status in _SCORED

    def to_dict(self) -> JsonObject:
        """Plain containers, with the subnet's id."""
        fields = {**vars(self), "id": self.subnet.id, "subnet": self.subnet.to_dict(), "costs": dict(self.costs)}
        return {key: fields[key] for key in (*_KEYS, *([] if self.origin is None else ["origin"]))}

    @classmethod
    def from_dict(cls, fields: JsonMapping) -> Evaluation:
        """The evaluation that `to_dict` wrote; raises ValueError, KeyError or TypeError for anything else."""
        if set(fields) - {"origin"} != set(_KEYS) or fields["status"] not in _STATUSES:
            raise ValueError(f"an evaluation has the keys {', '.join(_KEYS)}")
        subnet = Subnet.from_dict(fields["subnet"])
        if subnet.id != fields["id"]:
            raise ValueError(f"its id is {fields['id']}, but its subnet's id is {subnet.id}")
        if (fields["score"] is None) is (fields["status"] in _SCORED):
            raise ValueError("an evaluation has a score when its status is ok or ruled out, and only then")
        for name, kind in _KINDS.items():
            if name in fields and not isinstance(fields[name], kind):
                raise ValueError(f"its {name} is {fields[name]!r}")
        for name, value in (*fields["costs"].items(), ("score", fields["score"]), ("seconds", fields["seconds"])):
            if value is not None and not _is_number(value):
                raise ValueError(f"its {name} is {value!r}, not a finite number")
        return cls(**{**{key: fields[key] for key in fields if key != "id"}, "subnet": subnet})


class Ledger:
    """The evaluations of a run in ask order, each subnet once; in a file if `path` is given, else in memory.

    `costs` are the names that every evaluation with a score must hold. `guard` is called before each write.
    Raises `RunError` for a file that is not a ledger, and when a write fails: earlier evaluations are safe.
    """

    def __init__(
        self, path: Path | None = None, costs: Sequence[str] = (), guard: Callable[[], None] = lambda: None
    ) -> None:
        self.path, self._costs, self._guard = path, costs, guard
        self.evaluations: list[Evaluation] = []
        self._subnets: set[Subnet] = set()
        self._file: int | None = None
        if path is not None:
            self._open(path)

    def append(self, evaluations: Sequence[Evaluation]) -> None:
        """Adds evaluations, on disk before it returns."""
        lines = []
        for index, evaluation in enumerate(evaluations, start=len(self.evaluations)):
            assert evaluation.index == index, "evaluations are appended in ask order"
            if evaluation.subnet in self._subnets:
                raise RunError(f"subnet {evaluation.subnet.id} was proposed twice; a searcher must not repeat itself")
            self._subnets.add(evaluation.subnet)
            lines.append(_line(evaluation))
        if self._file is not None:
            self._check_file()
            self._guard()
            self._write("".join(lines).encode())
        self.evaluations += evaluations

    def _check_file(self) -> None:
        """Raises `RunError` if the path no longer leads to the open file: its evaluations would be lost."""
        assert self._file is not None
        assert self.path is not None
        try:
            there = self.path.stat()
            same = os.path.samestat(there, os.fstat(self._file))
        except OSError:
            same = False
        if not same:
            raise RunError(
                f"{self.path} was deleted or replaced during the search; {len(self.evaluations)} evaluations are no "
                "longer on disk: restore the file, or start another run"
            )

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self, path: Path) -> None:
        try:
            if path.exists():
                require_file(path)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            data = read_bytes(path) if path.stat().st_size else b""
            self.evaluations, good = _parse(path, data, self._costs)
            if good < len(data):
                os.ftruncate(self._file, good)
            self._subnets = {evaluation.subnet for evaluation in self.evaluations}
            self._size = good
            if good and data[good - 1 : good] != b"\n":
                self._write(b"\n")  # only the newline was torn off
        except OSError as error:
            self.close()
            raise RunError(f"cannot open ledger {path}: {error.strerror or error}") from None
        except RunError:
            self.close()
            raise

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise RunError(
                f"cannot write {self.path}: {error.strerror or error}; its {len(self.evaluations)} evaluations are "
                f"safe: make room, then continue with --resume"
            ) from None
        self._size += len(data)


def read_ledger(path: Path, costs: Sequence[str] = ()) -> list[Evaluation]:
    """The evaluations in a ledger that may still be written to by another process; changes nothing."""
    try:
        return _parse(path, read_bytes(path), costs)[0]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"cannot read ledger {path}: {error.strerror or error}") from None


def _parse(path: Path, data: bytes, costs: Sequence[str]) -> tuple[list[Evaluation], int]:
    """The evaluations in `data`, and how many of its bytes hold them: the rest is a torn end."""
    evaluations: list[Evaluation] = []
    subnets: set[Subnet] = set()
    good = 0
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    number = 0
    for line in filter(None, lines):
        if not line.strip():  # a blank line, which an editor may leave
            good += len(line)
            continue
        number += 1
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            if good + len(line) == len(data):
                break
            raise RunError(f"line {number} of {path} is broken, and later lines are not; restore the line") from None
        evaluation = evaluation_of(path, number, line, fields, costs)
        if evaluation.subnet in subnets:
            raise RunError(f"line {number} of {path} holds subnet {evaluation.subnet.id} a second time; remove one")
        subnets.add(evaluation.subnet)
        evaluations.append(evaluation)
        good += len(line)
    return evaluations, good


def _line(evaluation: Evaluation) -> str:
    """The evaluation as JSON, with the checksum of the rest of the line at its end."""
    body = json.dumps(evaluation.to_dict(), separators=(",", ":"), allow_nan=False)
    return f'{body[:-1]},"{_CHECKSUM}":"{_crc(body)}"}}\n'


def _crc(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def _check_crc(line: bytes, fields: JsonObject) -> None:
    """Removes the checksum, and raises ValueError if it is not that of the rest of the line."""
    if _CHECKSUM in fields:
        checksum = fields.pop(_CHECKSUM)
        body = line.rstrip()[: -len(f',"{_CHECKSUM}":"00000000"}}')] + b"}"
        if checksum != f"{zlib.crc32(body):08x}" and checksum != _crc(json.dumps(fields, separators=(",", ":"))):
            raise ValueError(f"its checksum {checksum} is not that of the line: something changed it")


def evaluation_of(path: Path, number: int, line: bytes, fields: Any, costs: Sequence[str]) -> Evaluation:
    """The evaluation in line `number` (from 1), parsed to `fields`. Raises `RunError` for anything else."""
    try:
        if not isinstance(fields, dict):
            raise ValueError(f"it is a {type(fields).__name__}")
        _check_crc(line, fields)
        evaluation = Evaluation.from_dict(fields)
        if evaluation.index != number - 1:
            raise ValueError(f"its index is {evaluation.index}, and should be {number - 1}")
        missing = [name for name in costs if evaluation.scored and evaluation.costs.get(name) is None]
        if missing:
            raise ValueError(f"it has no {missing[0]}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"line {number} of {path} is not an evaluation of this run: {error}") from None
    return evaluation


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)
