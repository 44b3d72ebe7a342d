"""Ray clusters: joining one, its resources, and whether its nodes have the driver's versions."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import socket
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from search_spaces import NasError

__all__ = ["actor_capacity", "check_resources", "connected", "difference", "import_ray", "ray_message", "versions"]


class connected:  # noqa: N801 - used as a with block
    """`with connected(address) as ray`: joins a cluster, or starts one for the block.

    If this process is already connected, that connection is used. Raises `NasError` within seconds if there is no
    cluster.
    """

    def __init__(self, address: str) -> None:
        self.address, self._ours = address, False

    def __enter__(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray = import_ray()
        if not ray.is_initialized():
            _begin(ray, self.address)
            self._ours = True
        return ray

    def __exit__(self, *error: object) -> None:
        if self._ours:
            import_ray().shutdown()


def import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise NasError("running on a cluster needs ray: pip install 'lighthubert-nas[ray]'") from None


def _begin(ray: Any, address: str) -> None:
    quiet = {"logging_level": "warning", "log_to_driver": False}
    if address == "local":
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    if address.startswith("ray://"):
        raise NasError(f"{address}: Ray Client is not supported; run on the head node, or with `ray job submit`")
    if address != "auto":
        _reach(address)
    errors = importlib.import_module("ray.exceptions")
    token = "if it has token authentication, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH as it was started with"
    try:
        ray.init(address=address, **quiet)
    except ConnectionError:
        if address != "auto":
            raise NasError(f"{address} answers, but does not let this process join; {token}") from None
        known = os.environ.get("RAY_ADDRESS")
        tried = f"RAY_ADDRESS={known}" if known else "RAY_ADDRESS is not set, and none was started on this machine"
        raise NasError(
            f"no Ray cluster at --ray auto ({tried}): start one with `ray start --head`, give its host:port, or use "
            f"--ray local; {token}"
        ) from None
    except errors.AuthenticationError as error:
        raise NasError(f"cannot join the Ray cluster at {address}: {ray_message(error)[:120]}; {token}") from None
    except (errors.RayError, RuntimeError, ValueError) as error:
        raise NasError(f"cannot join the Ray cluster at {address}: {ray_message(error)}") from None


def _reach(address: str) -> None:
    """Raises `NasError` if nothing listens at host:port."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise NasError(f"--ray must be local, auto or host:port, as in 10.0.0.1:6379; got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise NasError(
            f"no Ray cluster at {address} (tried to connect: {error.strerror or error}): start one there with "
            "`ray start --head`, or take --ray local"
        ) from None


def check_resources(ray: Any, actors: int, needs: dict[str, float], wait: bool) -> None:
    """Raises `NasError` if the cluster, with its present nodes, can never hold the requested actors."""
    if wait:
        return
    has, nodes = ray.cluster_resources(), sum(node["Alive"] for node in ray.nodes())
    advice = "ask for fewer, add nodes, or wait for them (--wait)"
    for name, need in needs.items():
        if has.get(name, 0) < actors * need - 1e-6:
            raise NasError(
                f"{actors} x {need:g} {name} asked for, and the cluster has {has.get(name, 0):g} on {nodes} nodes: "
                f"{advice}"
            )
    if (fit := actor_capacity(ray, needs)) < actors:
        message = ", ".join(f"{need:g} {name}" for name, need in needs.items() if need)
        raise NasError(f"{actors} x {message} asked for, and the {nodes} nodes of the cluster hold {fit}: {advice}")


def actor_capacity(ray: Any, needs: dict[str, float]) -> int:
    """How many actors the nodes that are alive hold."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min(int(node.get(k, 0) / need + 1e-6) for k, need in needs.items() if need) for node in nodes)


@cache
def versions() -> dict[str, str]:
    """Versions that driver and workers must share: Python's, and this package's down to its source."""
    try:
        own = version("lighthubert-nas")
    except PackageNotFoundError:
        own = "unknown"
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for room in ("search_spaces", "supernet", "evaluators", "nas"):
        for file in sorted((root / room).rglob("*.py")):
            digest.update(file.read_bytes())
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "lighthubert-nas": f"{own} ({digest.hexdigest()[:8]})"}


def difference(wanted: dict[str, str], here: dict[str, str]) -> str | None:
    for name, value in wanted.items():
        if here[name] != value:
            return (
                f"node {socket.gethostname()} has {name} {here[name]}, the driver has {value}: install the same on "
                "every node, or submit the code with the job (docs/guides/ray.md)"
            )
    return None


def ray_message(error: BaseException) -> str:
    """The informative line of an error: Ray's own start with tracebacks, and end with hints."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = [line for line in lines if "Error: " in line or "Exception: " in line] or lines[:1] or [""]
    return f"{type(error).__name__}: {message[-1]}"[:300]
