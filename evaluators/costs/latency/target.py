"""Targets of latency measurements: their text form, and whether this machine has one.

target  = word {"," word}          onnxruntime,threads=1,seconds=2
word    = backend                  torch | torch-compile | onnxruntime
        | preset                   a table of targets.toml (shipped, and in the working directory)
        | key "=" value            backend, device, threads, batch, seconds, dtype
"""

from __future__ import annotations

import math
import os
import platform
import sys
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from search_spaces import NasError
from search_spaces.types import JsonMapping, JsonObject

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["BACKENDS", "DTYPES", "Target", "machine"]

BACKENDS = ("torch", "torch-compile", "onnxruntime")
DEVICES = ("cpu", "cuda")
DTYPES = {
    "torch": ("fp32", "bf16", "fp16"),
    "torch-compile": ("fp32", "bf16", "fp16"),
    "onnxruntime": ("fp32", "fp16", "int8"),
}
_SHIPPED = Path(__file__).with_name("targets.toml")


@dataclass(frozen=True)
class Target:
    """`batch` utterances of `seconds` of 16 kHz audio, run by `backend` on `device`, with `threads` CPU threads."""

    backend: str = "torch"
    device: str = "cpu"
    threads: int = 1
    batch: int = 1
    seconds: float = 2.0
    dtype: str = "fp32"

    def __post_init__(self) -> None:
        _one_of("backend", self.backend, BACKENDS)
        _one_of("device", self.device, DEVICES)
        _one_of(f"dtype of {self.backend}", self.dtype, DTYPES[self.backend])
        for name in ("threads", "batch"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise NasError(f"{name} of a target must be a whole number, 1 or more; got {value!r}")
        seconds = self.seconds
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
            raise NasError(f"seconds of a target must be a positive number; got {seconds!r}")
        object.__setattr__(self, "seconds", float(seconds))

    @classmethod
    def parse(cls, text: str) -> Target:
        """The target in `text`; the defaults are those of `Target()`. Raises `NasError` for unknown words."""
        target, presets = cls(), _presets()
        for word in filter(None, (part.strip() for part in text.split(","))):
            key, equals, value = (part.strip() for part in word.partition("="))
            if equals:
                target = target._with({key: _value(key, value)})
            elif word in BACKENDS:
                target = target._with({"backend": word})
            elif word in presets:
                target = target._with(presets[word])
            else:
                raise NasError(
                    f"unknown backend '{word}' in target '{text}'; known: {', '.join(BACKENDS)}, or a preset: "
                    f"{', '.join(presets)}"
                )
        return target

    def _with(self, words: JsonMapping) -> Target:
        known = [field.name for field in fields(self)]
        for key in words:
            if key not in known:
                raise NasError(f"unknown word '{key}' in a target; known: {', '.join(known)}")
        return replace(self, **words)

    def __str__(self) -> str:
        """Canonical: the backend, threads, seconds, and then the values that differ from the defaults."""
        message = [f"{f.name}={getattr(self, f.name):g}" for f in fields(self) if f.name in ("threads", "seconds")]
        if self.batch != 1:
            message.append(f"batch={self.batch}")
        message += [
            f"{name}={getattr(self, name)}" for name in ("device", "dtype") if getattr(self, name) != _plain(name)
        ]
        return ",".join([self.backend, *message])

    def to_dict(self) -> JsonObject:
        return asdict(self)

    @classmethod
    def from_dict(cls, words: JsonMapping) -> Target:
        return cls()._with(words)

    def check_here(self) -> None:
        """Raises `NasError` if this machine lacks the target's backend, device or cores."""
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise NasError("device=cuda is not on this machine; use cpu, or measure on a machine that has it")
        if self.threads > _cores():
            raise NasError(f"threads={self.threads} is over the {_cores()} cores of this machine; use fewer")
        if self.backend == "onnxruntime":
            for module in ("onnxruntime", "onnx", "onnxscript"):
                if find_spec(module) is None:
                    raise NasError(f"backend onnxruntime needs {module}: pip install 'lighthubert-nas[onnx]'")
            if self.device == "cuda":
                import onnxruntime

                if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                    raise NasError("this onnxruntime has no CUDA: pip install onnxruntime-gpu, or use device=cpu")

    def versions(self) -> dict[str, str]:
        """The versions of the software that a latency depends on."""
        names = {"torch": ("torch",), "torch-compile": ("torch",), "onnxruntime": ("onnxruntime",)}[self.backend]
        return {name: _version(name) for name in names}


def machine(device: str = "cpu") -> JsonObject:
    """The properties of this machine that latency depends on."""
    result: JsonObject = {"cpu": _cpu(), "cores": _cores(), "system": f"{platform.system()} {platform.machine()}"}
    if device == "cuda":
        import torch

        result["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return result


def _cpu() -> str:
    """The processor's name and model numbers: cloud machines often have the same name for different ones."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    pairs = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]
    known = dict(reversed(pairs))
    numbers = [known[key] for key in ("cpu family", "model", "stepping") if key in known]
    return " ".join([known.get("model name", platform.machine()), *(["/".join(numbers)] if numbers else [])])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(name: str) -> str:
    for package in (name, f"{name}-gpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "none"


def _plain(name: str) -> Any:
    return next(field.default for field in fields(Target) if field.name == name)


def _value(key: str, value: str) -> Any:
    kind = {"threads": int, "batch": int, "seconds": float}.get(key, str)
    try:
        return kind(value)
    except ValueError:
        raise NasError(f"{key} of a target must be a number; got '{value}'") from None


def _presets() -> dict[str, JsonObject]:
    result: dict[str, JsonObject] = {}
    for file in (_SHIPPED, Path("targets.toml")):
        if file is not _SHIPPED and not file.is_file():
            continue
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise NasError(f"cannot read targets in {file}: {error}") from None
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise NasError(f"{file} must hold one table a target; got {name} = {table!r}")
            result[name] = table
    return result


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise NasError(f"unknown {name} '{value}'; known: {', '.join(allowed)}")
