"""Scores subnets on a Ray cluster: long-lived evaluators, a feeder that loses nothing, and costs measured elsewhere.

Each evaluator is an actor that holds the score. The score goes into the object store once; its arrays and CPU tensors
are mapped into the evaluators, not copied, so it must not write to them. A batch is sorted, so that subnets with the
same first layers come together, and handed out in chunks that shrink towards the end of the batch. What a dead
evaluator held is handed out again, a subnet at a time, and a new evaluator takes its place wherever there is room.
Near the end, what takes long is given to a second evaluator as well. Whoever is first counts, so each subnet has one
outcome, and outcomes are given in the order asked for: the number of evaluators and what dies change nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import logging
import math
import os
import pickle
import platform
import socket
import statistics
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from nas.executors.local import LocalExecutor, Outcome, told_in_one_line
from search_spaces import NasError, Subnet

__all__ = ["RayExecutor", "RemoteCost", "check_room", "connected", "shared", "versions"]

_CHUNK_SECONDS = 2.0  # what the death of an evaluator may cost
_MOST_IN_CHUNK = 64
_MOST_DEATHS = 4  # of evaluators that held one subnet: then it is the subnet
_LOOK_FOR_NODES_SECONDS = 2.0
_SAY_ALONE_SECONDS = 30.0

_log = logging.getLogger("nas.ray")


class RayExecutor:
    """`with RayExecutor(score, "auto") as executor: nas.search(space, score, executor=executor)`.

    `address` is "local" (a cluster on this machine, for as long as the block lasts), "auto" or a host:port. `actors`
    evaluators are kept alive, each with `cpus` cores (fractions are allowed; it computes with as many threads) and
    `gpus`; where it is None, as many as the cluster holds, and more as nodes join. `device` is where they score.

    Raises `NasError` where there is no cluster, where it cannot hold the evaluators (unless `wait`: those that fit
    begin, the others join as nodes do), and where its nodes have other versions of Python or of this package.
    """

    def __init__(
        self,
        score: Callable[[list[Subnet]], Sequence[Any]],
        address: str = "auto",
        actors: int | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        device: str = "cpu",
        wait: bool = False,
    ) -> None:
        if actors is not None and actors < 1:
            raise NasError(f"actors must be 1 or more; got {actors}")
        if cpus < 0 or gpus < 0 or cpus + gpus == 0:
            raise NasError(f"an actor needs a share of a CPU or GPU; got cpus={cpus}, gpus={gpus}")
        self.score, self.address, self.device = score, address, device
        self.actors, self.needs, self._wait = actors, {"CPU": cpus, "GPU": gpus}, wait
        self._connection = connected(address)
        self._evaluators: list[_Evaluator] = []
        self._made, self._looked, self._wanted = 0, -math.inf, 0
        self._alone_since = time.monotonic()
        self._queue: deque[Subnet] = deque()
        self._running: dict[Any, tuple[_Evaluator, _Chunk]] = {}
        self._lost: list[tuple[Subnet, Outcome]] = []
        self._deaths: Counter[Subnet] = Counter()
        self._seconds: deque[float] = deque(maxlen=100)

    def __enter__(self) -> RayExecutor:
        self._ray = self._connection.__enter__()
        try:
            self._begin()
        except BaseException:
            self._connection.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for evaluator in self._evaluators:
            self._ray.kill(evaluator.actor)
        self._evaluators.clear()
        del self._shared
        self._connection.__exit__(kind, error, trace)

    @property
    def alive(self) -> int:
        """How many evaluators are ready to score."""
        return sum(evaluator.ready for evaluator in self._evaluators)

    def run(self, subnets: Sequence[Subnet]) -> Iterator[list[Outcome]]:
        """Outcomes in the order of `subnets`, in the chunks in which they become known."""
        known: dict[Subnet, Outcome] = {}
        given = 0
        self.submit(subnets)
        while given < len(subnets):
            known |= self.collect()
            chunk: list[Outcome] = []
            while given < len(subnets) and subnets[given] in known:
                chunk.append(known.pop(subnets[given]))
                given += 1
            if chunk:
                yield chunk

    def submit(self, subnets: Sequence[Subnet]) -> None:
        """Adds subnets to what is to be scored; their outcomes come from `collect`."""
        self._queue.extend(sorted(subnets, key=_path))

    def collect(self) -> list[tuple[Subnet, Outcome]]:
        """What became known, in no order; returns after a second at most, empty-handed where nothing did."""
        self._keep_evaluators()
        self._say_when_alone()
        self._hand_out()
        waiting = [*self._running, *(e.started for e in self._evaluators if not e.ready)]
        ready: list[Any] = []
        if waiting:
            self._ray.wait(waiting, num_returns=1, timeout=1.0)
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        else:
            time.sleep(0.2)
        found = [pair for ref in ready for pair in self._take(ref)] + self._lost
        self._lost = []
        self._measure(len(found))
        return found

    # ---------------------------------------------------------------- evaluators

    def _begin(self) -> None:
        self._wanted = self.actors or _fit(self._ray, self.needs)
        check_room(self._ray, self.actors or 1, self.needs, self._wait)
        self._shared = shared(self._ray, self.score)
        metrics = importlib.import_module("ray.util.metrics")
        self._evaluated = metrics.Counter("nas_evaluations", "Subnets scored by this search.")
        self._alive = metrics.Gauge("nas_evaluators", "Evaluators that are ready to score.")
        threads = {"OMP_NUM_THREADS": str(max(1, int(self.needs["CPU"])))}  # results may depend on it: same everywhere
        self._actor = self._ray.remote(_Scorer)
        self._options = {
            "num_cpus": self.needs["CPU"],
            "num_gpus": self.needs["GPU"],
            "max_restarts": 0,
            "runtime_env": {"env_vars": threads},
            "namespace": f"nas-{os.getpid()}-{time.time_ns() % 10**6}",
        }

    def _keep_evaluators(self) -> None:
        """Makes up for the dead, and for nodes that joined; takes back what was asked for and has no room left."""
        if self.actors is None and time.monotonic() - self._looked > _LOOK_FOR_NODES_SECONDS:
            self._looked, self._wanted = time.monotonic(), max(1, _fit(self._ray, self.needs))
        while len(self._evaluators) < self._wanted:
            self._made += 1
            options = {**self._options, "name": f"evaluator-{self._made}"}
            actor = self._actor.options(**options).remote(self._shared, self.device, versions())
            self._evaluators.append(_Evaluator(actor, actor.ready.remote()))
        for evaluator in [e for e in self._evaluators if not e.ready][: len(self._evaluators) - self._wanted]:
            self._drop(evaluator)

    def _say_when_alone(self) -> None:
        now = time.monotonic()
        if self.alive or not self._queue:
            self._alone_since = now
        elif now - self._alone_since > _SAY_ALONE_SECONDS:
            self._alone_since = now
            _log.warning("no evaluator is alive: waiting for the cluster to have room for one (Ctrl-C ends the wait)")

    def _drop(self, evaluator: _Evaluator) -> None:
        if evaluator in self._evaluators:
            self._evaluators.remove(evaluator)
            self._ray.kill(evaluator.actor)

    # ---------------------------------------------------------------- the feeder

    def _hand_out(self) -> None:
        """Gives chunks to evaluators, the least busy first; two each while much is left, so that none ever waits."""
        ready = [evaluator for evaluator in self._evaluators if evaluator.ready]
        while ready and self._queue:
            most = 2 if len(self._queue) > 4 * len(ready) else 1
            evaluator = min(ready, key=lambda each: each.busy)
            if evaluator.busy >= most:
                return
            self._send(evaluator, _Chunk([self._queue.popleft() for _ in range(self._chunk_size(len(ready)))]))
        idle = [evaluator for evaluator in ready if not evaluator.busy]
        for evaluator, chunk in zip(idle, self._stragglers() if idle else ()):
            self._send(evaluator, chunk)

    def _chunk_size(self, evaluators: int) -> int:
        """Half of an even share of what is left, but no more than a few seconds; one by one what was lost before."""
        if self._deaths[self._queue[0]]:
            return 1
        worth = _CHUNK_SECONDS / max(1e-6, statistics.median(self._seconds)) if self._seconds else 4
        return max(1, int(min(len(self._queue) / (2 * evaluators), worth, _MOST_IN_CHUNK)))

    def _stragglers(self) -> list[_Chunk]:
        """The chunks that take over twice as long as they should and have no double yet, the longest first."""
        usual = statistics.median(self._seconds) if self._seconds else math.inf
        late = [
            chunk
            for _, chunk in self._running.values()
            if chunk.copies == 1 and not chunk.done and chunk.age > 1.0 + 2 * usual * len(chunk.subnets)
        ]
        return sorted(late, key=lambda chunk: -chunk.age)

    def _send(self, evaluator: _Evaluator, chunk: _Chunk) -> None:
        ref = evaluator.actor.run.remote(chunk.subnets)
        evaluator.busy += 1
        chunk.copies += 1
        self._running[ref] = (evaluator, chunk)

    def _take(self, ref: Any) -> list[tuple[Subnet, Outcome]]:
        """What a finished call gave: outcomes, an evaluator that is ready, or the news that one died."""
        errors = importlib.import_module("ray.exceptions")
        if ref not in self._running:
            return self._take_start(ref, errors)
        evaluator, chunk = self._running.pop(ref)
        evaluator.busy -= 1
        chunk.copies -= 1
        try:
            outcomes = self._ray.get(ref)
        except errors.RayTaskError as error:  # scores that raise are outcomes: this is a mistake of the user, or ours
            raise error.cause if isinstance(error.cause, NasError) else NasError(_words(error)) from None
        except errors.RayError as error:
            self._drop(evaluator)
            if not chunk.done and not chunk.copies:
                self._lose(chunk, error)
            return []
        if chunk.done:
            return []
        chunk.done = True
        self._seconds.extend(outcome.seconds for outcome in outcomes)
        return list(zip(chunk.subnets, outcomes, strict=True))

    def _take_start(self, ref: Any, errors: Any) -> list[tuple[Subnet, Outcome]]:
        evaluator = next((e for e in self._evaluators if e.started == ref), None)
        try:
            problem = self._ray.get(ref)
        except errors.RayError as error:
            if "creation task" in str(error):
                raise NasError(f"evaluators do not start on this cluster: {_words(error)}") from None
            if evaluator:
                self._drop(evaluator)
            return []
        if problem:
            raise NasError(problem)
        if evaluator:
            evaluator.ready = True
        return []

    def _lose(self, chunk: _Chunk, error: Exception) -> None:
        """Hands out again what a dead evaluator held, one by one; gives up a subnet that kills every evaluator."""
        _log.info("%d subnets are handed out again: %s", len(chunk.subnets), _words(error))
        for subnet in reversed(chunk.subnets):
            self._deaths[subnet] += 1
            if self._deaths[subnet] < _MOST_DEATHS:
                self._queue.appendleft(subnet)
            else:
                said = f"{_MOST_DEATHS} evaluators died with it; the last: {_words(error)}"
                self._lost.append((subnet, Outcome(None, said[:200], 0.0)))

    def _measure(self, found: int) -> None:
        self._alive.set(self.alive)
        if found:
            self._evaluated.inc(found)


@dataclass(eq=False)
class _Evaluator:
    """An actor, the call that tells that it is ready, and how many chunks it holds."""

    actor: Any
    started: Any
    ready: bool = False
    busy: int = 0


@dataclass(eq=False)
class _Chunk:
    """Subnets that are scored in one call, and how many evaluators were given them."""

    subnets: list[Subnet]
    copies: int = 0
    done: bool = False
    since: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds."""
        return time.monotonic() - self.since


class _Scorer:
    """The actor. What keeps it from starting is told by `ready`, in one line."""

    def __init__(self, packed: Any, device: str, wanted: dict[str, str]) -> None:
        self.problem = _difference(wanted, versions())
        if not self.problem:
            try:
                self.executor = LocalExecutor(_unpacked(packed, device))
            except Exception as error:
                self.problem = f"the score cannot be loaded on node {socket.gethostname()}: {told_in_one_line(error)}"

    def ready(self) -> str | None:
        return self.problem

    def run(self, subnets: list[Subnet]) -> list[Outcome]:
        return [outcome for chunk in self.executor.run(subnets) for outcome in chunk]


def _path(subnet: Subnet) -> tuple[int, tuple[tuple[int, float], ...]]:
    """Sorting by this puts subnets with the same first layers side by side."""
    return subnet.embed_dim, tuple(zip(subnet.heads, subnet.ffn_ratios))


# -------------------------------------------------------------------- costs measured elsewhere


class RemoteCost:
    """A measured cost, measured on nodes that have a custom resource, one subnet at a time on each.

    `cost` is pickled to the nodes with the resource (`ray start --resources '{"jetson": 1}'`); the call takes one
    unit of it. `of` measures one subnet, `ahead` begins with those that will be asked for. To be used inside the
    block of a connected `RayExecutor`.
    """

    def __init__(self, cost: Any, resource: str, wait: bool = False) -> None:
        self._ray = _ray()
        check_room(self._ray, 1, {resource: 1.0}, wait)
        self._shared = shared(self._ray, cost)
        options = {"num_cpus": 0, "resources": {resource: 1.0}, "max_retries": _MOST_DEATHS}
        self._measure = self._ray.remote(_measured).options(**options)
        self._begun: dict[Subnet, Any] = {}

    def ahead(self, subnets: Sequence[Subnet]) -> None:
        """Begins to measure."""
        for subnet in subnets:
            self._begun.setdefault(subnet, self._measure.remote(self._shared, subnet, versions()))

    def of(self, subnet: Subnet) -> float:
        """The cost, as measured on a node with the resource."""
        self.ahead([subnet])
        errors = importlib.import_module("ray.exceptions")
        try:
            return self._ray.get(self._begun.pop(subnet))  # type: ignore[no-any-return]
        except errors.RayTaskError as error:
            raise error.cause or error from None


_HELD: dict[str, Any] = {}


def _measured(packed: Any, subnet: Subnet, wanted: dict[str, str]) -> float:
    """Runs on the node: the cost is unpacked once in each worker process."""
    if problem := _difference(wanted, versions()):
        raise NasError(problem)
    key = hashlib.sha256(packed[0]).hexdigest()
    if key not in _HELD:
        _HELD.clear()
        _HELD[key] = _unpacked(packed, "cpu")
    value = _HELD[key].of(subnet)
    return value if isinstance(value, int) else float(value)


# -------------------------------------------------------------------- the object store


def shared(ray: Any, value: Any) -> Any:
    """A reference to `value` in the object store; its arrays and CPU tensors will be mapped from there, not copied."""
    data, buffers = _packed(value)
    size = len(data) + sum(buffer.nbytes for buffer in buffers)
    errors = importlib.import_module("ray.exceptions")
    try:
        return ray.put((data, buffers))
    except (errors.ObjectStoreFullError, errors.OutOfDiskError) as error:
        raise NasError(
            f"the score ({size / 1e6:,.0f} MB) does not fit Ray's object store: start the cluster with a larger one "
            f"(ray start --object-store-memory BYTES) or free the disk it spills to ({_words(error)})"
        ) from None


def _packed(value: Any) -> tuple[bytes, list[Any]]:
    """A pickle, and the buffers that it refers to."""
    cloudpickle = importlib.import_module("ray.cloudpickle")
    torch = sys.modules.get("torch")

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc, name-defined]
        def reducer_override(self, value: Any) -> Any:
            if torch is not None and type(value) is torch.Tensor and _mappable(torch, value):
                return _tensor, (value.numpy(),)
            return super().reducer_override(value)

    file, buffers = io.BytesIO(), []  # type: ignore[var-annotated]
    try:
        Pickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise NasError(f"the score cannot be sent to evaluators, because it cannot be pickled: {error}") from None
    return file.getvalue(), [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]


def _mappable(torch: Any, tensor: Any) -> bool:
    """Whether numpy can hold it; numpy has no bfloat16."""
    plain = tensor.device.type == "cpu" and tensor.layout == torch.strided and not tensor.requires_grad
    return bool(plain and tensor.dtype != torch.bfloat16 and not tensor.is_quantized)


def _tensor(array: Any) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is read-only: the object store is shared
        return torch.from_numpy(array)


def _unpacked(packed: tuple[bytes, list[Any]], device: str) -> Any:
    value = pickle.loads(packed[0], buffers=packed[1])
    return value if device == "cpu" else value.to(device)


# -------------------------------------------------------------------- the cluster


class connected:  # noqa: N801 - used as a with block
    """`with connected(address) as ray`: joins a cluster, or begins one; leaves it as it was.

    Where this process is connected already, that connection serves. Raises `NasError` in seconds where there is none.
    """

    def __init__(self, address: str) -> None:
        self.address, self._ours = address, False

    def __enter__(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray = _ray()
        if not ray.is_initialized():
            _begin(ray, self.address)
            self._ours = True
        return ray

    def __exit__(self, *error: object) -> None:
        if self._ours:
            _ray().shutdown()


def _ray() -> Any:
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
    token = "if it has token authentication, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH as it was begun with"
    try:
        ray.init(address=address, **quiet)
    except ConnectionError:
        if address != "auto":
            raise NasError(f"{address} answers, but does not let this process join; {token}") from None
        known = os.environ.get("RAY_ADDRESS")
        tried = f"RAY_ADDRESS={known}" if known else "RAY_ADDRESS is not set, and none was begun on this machine"
        raise NasError(
            f"no Ray cluster at --ray auto ({tried}): begin one with `ray start --head`, give its host:port, or take "
            f"--ray local; {token}"
        ) from None
    except errors.AuthenticationError as error:
        raise NasError(f"cannot join the Ray cluster at {address}: {_words(error)[:120]}; {token}") from None
    except (errors.RayError, RuntimeError, ValueError) as error:
        raise NasError(f"cannot join the Ray cluster at {address}: {_words(error)}") from None


def _reach(address: str) -> None:
    """Raises `NasError` where nothing listens at host:port."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise NasError(f"--ray must be local, auto or host:port, as in 10.0.0.1:6379; got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise NasError(
            f"no Ray cluster at {address} (tried to connect: {error.strerror or error}): begin one there with "
            "`ray start --head`, or take --ray local"
        ) from None


def check_room(ray: Any, actors: int, needs: dict[str, float], wait: bool) -> None:
    """Raises `NasError` where the cluster, as it is now, can never hold what is asked for."""
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
    if (fit := _fit(ray, needs)) < actors:
        said = ", ".join(f"{need:g} {name}" for name, need in needs.items() if need)
        raise NasError(f"{actors} x {said} asked for, and the {nodes} nodes of the cluster hold {fit}: {advice}")


def _fit(ray: Any, needs: dict[str, float]) -> int:
    """How many actors the nodes that are alive hold."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min(int(node.get(k, 0) / need + 1e-6) for k, need in needs.items() if need) for node in nodes)


@cache
def versions() -> dict[str, str]:
    """What driver and workers must have in common: Python, and this package down to its source."""
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


def _difference(wanted: dict[str, str], here: dict[str, str]) -> str | None:
    for name, value in wanted.items():
        if here[name] != value:
            return (
                f"node {socket.gethostname()} has {name} {here[name]}, the driver has {value}: install the same on "
                "every node, or submit the code with the job (docs/ray.md)"
            )
    return None


def _words(error: BaseException) -> str:
    """The last line of an error that says something: Ray's own begin with tracebacks, and end with hints."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if "Error: " in line or "Exception: " in line] or lines[:1] or [""]
    return f"{type(error).__name__}: {said[-1]}"[:300]
