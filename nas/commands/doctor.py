"""`nas doctor`: what is installed, where it runs and what is missing, as a block of text for a bug report."""

from __future__ import annotations

import getpass
import os
import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import typer

from nas.commands.common import JsonOption
from nas.commands.console import print_json, write_out
from nas.commands.options import verb
from nas.settings import shipped_supernets
from search_spaces import CheckFailed, NasError
from search_spaces.files import cache_folder
from search_spaces.rooms import DISTRIBUTION, other_owners
from search_spaces.types import JsonObject

__all__ = ["app", "private", "report"]

app = typer.Typer(add_completion=False)

VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "PYTHONPATH", "RANK", "RAY_ADDRESS",
    "WORLD_SIZE", "XDG_CACHE_HOME",
)  # fmt: skip
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


@verb(app, example="nas doctor")
def doctor(json: JsonOption = False) -> None:
    """Show what is installed, where it runs and what is missing, to paste into a bug report.

    Paths are shortened: it names neither you nor your home folder. Ends with status 4 if the installation is broken.
    """
    record = private(report())
    if json:
        print_json(record)
    else:
        write_out("".join(_lines(record)))
    if record["problems"]:
        raise CheckFailed("the installation is broken: " + "; ".join(record["problems"]))


def report() -> JsonObject:
    """What `nas doctor` shows, as plain containers; "problems" is empty unless the installation is broken."""
    packages, problems = _packages()
    devices: list[str] = []
    threads: JsonObject = {}
    calibrations: dict[str, str] = {}
    try:
        import torch

        devices = _devices(torch)
        threads = {"torch": torch.get_num_threads(), "torch between operations": torch.get_num_interop_threads()}
        calibrations = _calibrations()
    except (ImportError, OSError) as error:
        problems.append(f"torch cannot be imported: {error}")
    problems += [
        f"'{name}' also belongs to {', '.join(others)}: pip uninstall it, and install {DISTRIBUTION} again"
        for name, others in other_owners().items()
    ]
    supernets = _supernets()
    if not supernets:
        problems.append(f"no supernet is in the package: pip install --force-reinstall --no-deps {DISTRIBUTION}")
    return {
        "version": _version(DISTRIBUTION),
        "folder": str(Path(__file__).parents[2]),
        "python": f"{platform.python_version()} ({platform.python_implementation()}), {platform.platform()}",
        "machine": _machine(),
        "devices": devices,
        "threads": {**threads, **{name: os.environ[name] for name in VARIABLES if name in os.environ}},
        "cache": _folder(cache_folder()),
        "calibrations": calibrations,
        "supernets": supernets,
        "packages": packages,
        "problems": problems,
    }


# -------------------------------------------------------------------- packages


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _packages() -> tuple[dict[str, str], list[str]]:
    """The version of each package that this one names, or how to install it; and what is wrong with those it needs."""
    from packaging.requirements import Requirement

    if _version(DISTRIBUTION) is None:
        return {}, [f"{DISTRIBUTION} is not installed: pip install {DISTRIBUTION}"]
    shown: dict[str, str] = {}
    problems: list[str] = []
    for requirement in map(Requirement, requires(DISTRIBUTION) or ()):
        extra = re.search(r"extra == ['\"](\w+)['\"]", str(requirement.marker))
        name = requirement.name
        marker = requirement.marker
        if name in (DISTRIBUTION, *shown) or (extra and extra[1] == "dev"):
            continue
        if marker is not None and not marker.evaluate({"extra": extra[1] if extra else ""}):
            continue
        has = _version(name)
        install = f"pip install '{DISTRIBUTION}[{extra[1]}]'" if extra else f"pip install {str(requirement)!r}"
        if has is None:
            shown[name] = f"not installed: {install}"
        elif requirement.specifier.contains(has, prereleases=True):
            shown[name] = has
        else:
            shown[name] = f"{has}, but {requirement.specifier} is needed: {install}"
        if not extra and shown[name] != has:
            problems.append(f"{name}: {shown[name]}")
    return shown, problems


# -------------------------------------------------------------------- the machine


def _machine() -> JsonObject:
    from evaluators.costs.latency.target import machine

    facts = machine()
    return {"cpu": facts["cpu"], "cores": f"{facts['cores']} of {os.cpu_count()} can be used", "memory": _memory()}


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "unknown"
    try:
        limit = int(_CGROUP_MEMORY.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        limit = total
    return _gib(total) + (f", limited to {_gib(limit)}" if limit < total else "")


def _devices(torch: Any) -> list[str]:
    """The CPU, and what CUDA shows."""
    devices = [f"cpu ({torch.backends.cpu.get_cpu_capability()})"]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        devices.append(f"cuda:{index} {properties.name}, {_gib(properties.total_memory)}, CUDA {torch.version.cuda}")
    if len(devices) == 1:
        devices.append("no cuda: " + ("torch was built without it" if torch.version.cuda is None else "no device"))
    return devices


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


# -------------------------------------------------------------------- files


def _folder(folder: Path) -> str:
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return f"{folder}: " + (f"{len(sizes)} files, {sum(sizes) / 1e6:,.1f} MB" if sizes else "empty")


def _supernets() -> dict[str, str]:
    import supernet

    folder = Path(supernet.__file__).parent / "pretrained"
    return {name: f"{(folder / name / 'model.safetensors').stat().st_size / 1e6:.1f} MB of weights"
            for name in shipped_supernets() if (folder / name / "model.safetensors").is_file()}  # fmt: skip


def _calibrations() -> dict[str, str]:
    """By file name, whether a latency calibration is valid on this machine, with these versions."""
    from evaluators.costs.latency.calibration import LatencyCalibration, latency_calibrations

    valid = {}
    for file in latency_calibrations():
        try:
            calibration = LatencyCalibration.load(file)
            calibration.check(calibration.space, calibration.target)
            valid[file.name] = "valid here"
        except NasError as error:
            valid[file.name] = "not valid here: " + str(error).partition(";")[0]
    return valid


# -------------------------------------------------------------------- printing


def private(value: Any) -> Any:
    """`value` with ~ for the home folder, and USER for a folder that has the user's name, in all its text."""
    if isinstance(value, Mapping):
        return {private(key): private(each) for key, each in value.items()}
    if isinstance(value, list):
        return [private(each) for each in value]
    if not isinstance(value, str):
        return value
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home raises if there is none
    for folder in {home, os.path.realpath(home)} - {"~", os.sep}:
        value = re.sub(rf"{re.escape(folder)}(?![^/\\:;,'\"\s])", "~", value)
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        return value
    return re.sub(rf"(?<=[/\\]){re.escape(user)}(?![^/\\:;,'\"\s])", "USER", value)


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    """The record as text: a heading for each part, or one line if it is one value."""
    for part, value in record.items():
        if not isinstance(value, (Mapping, list)):
            yield f"{part}: {value}\n"
            continue
        yield f"{part}:{'' if value else ' none'}\n"
        for each in value:
            yield f"  {each}" + (f": {value[each]}" if isinstance(value, Mapping) else "") + "\n"
