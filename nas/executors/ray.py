"""Scores subnets on a Ray cluster: long-lived evaluators, and a feeder that loses nothing.

Each evaluator is an actor that holds the score. The score goes into the object store once; its arrays and CPU tensors
are mapped into the evaluators, not copied, so it must not write to them. A batch is sorted, so that subnets with the
same first layers come together, and handed out in chunks that shrink towards the end of the batch. Subnets of a dead
evaluator are handed out again, one at a time, and a new evaluator takes its place wherever there is room. Near the end,
slow chunks are given to a second evaluator as well. The first result counts, so each subnet has one outcome, and
outcomes come in the order asked for: neither the number of evaluators nor their deaths change the result.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import socket
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from nas.cluster.connection import actor_capacity, check_resources, connected, difference, ray_message, versions
from nas.cluster.object_store import shared, unpacked
from nas.executors.local import LocalExecutor, Outcome, one_line
from nas.runs.ledger import Evaluation
from search_spaces import NasError, RunError, Subnet

__all__ = ["RayExecutor"]

_CHUNK_SECONDS = 2.0  # work that the death of an evaluator may lose
MAX_IN_CHUNK = 64
MAX_DEATHS = 4  # of evaluators that held one subnet: then it is the subnet
_LOOK_FOR_NODES_SECONDS = 2.0
_SAY_ALONE_SECONDS = 30.0

_log = logging.getLogger("nas.ray")


class RayExecutor:
    """`with RayExecutor(score, "auto") as executor: nas.search(space, score, executor=executor)`.

    `address` is "local" (a cluster on this machine, for as long as the block lasts), "auto" or a host:port. `actors`
    evaluators are kept alive, each with `cpus` cores (fractions are allowed; it computes with as many threads) and
    `gpus`; None: as many as the cluster holds, and more as nodes join. They score on `device`.

    Raises `NasError` if there is no cluster, if it cannot hold the evaluators (unless `wait`: those that fit start, the
    others join as nodes do), and if its nodes have other versions of Python or of this package; `RunError` if no
    evaluator has been alive for `timeout` seconds.
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
        timeout: float = 600.0,
    ) -> None:
        if actors is not None and actors < 1:
            raise NasError(f"actors must be 1 or more; got {actors}")
        if cpus < 0 or gpus < 0 or cpus + gpus == 0:
            raise NasError(f"an actor needs a share of a CPU or GPU; got cpus={cpus}, gpus={gpus}")
        self.score, self.address, self.device = score, address, device
        self.actors, self.needs, self._wait = actors, {"CPU": cpus, "GPU": gpus}, wait
        self.timeout = timeout
        self._connection = connected(address)
        self._evaluators: list[_Actor] = []
        self._made, self._looked, self._wanted = 0, -math.inf, 0
        self._alone_since = self._said_alone = time.monotonic()
        self._queue: deque[Subnet] = deque()
        self._best: Evaluation | None = None
        self._running: dict[Any, tuple[_Actor, _Chunk]] = {}
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

    def run(self, subnets: Sequence[Subnet], best: Evaluation | None = None) -> Iterator[list[Outcome]]:
        """Outcomes in the order of `subnets`, in the chunks in which they become known."""
        known: dict[Subnet, Outcome] = {}
        values = 0
        self.submit(subnets, best)
        while values < len(subnets):
            known |= self.collect()
            chunk: list[Outcome] = []
            while values < len(subnets) and subnets[values] in known:
                chunk.append(known.pop(subnets[values]))
                values += 1
            if chunk:
                yield chunk

    def submit(self, subnets: Sequence[Subnet], best: Evaluation | None = None) -> None:
        """Queues subnets; their outcomes come from `collect`."""
        self._best = best
        self._queue.extend(sorted(subnets, key=_path))

    def collect(self) -> list[tuple[Subnet, Outcome]]:
        """New outcomes, in no order; returns after at most a second, with an empty list if there are none."""
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
        result = [pair for ref in ready for pair in self._take(ref)] + self._lost
        self._lost = []
        self._measure(len(result))
        return result

    # ---------------------------------------------------------------- evaluators

    def _begin(self) -> None:
        self._wanted = self.actors or actor_capacity(self._ray, self.needs)
        check_resources(self._ray, self.actors or 1, self.needs, self._wait)
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
        """Replaces dead evaluators, adds some for nodes that joined, and drops pending ones that no longer fit."""
        if self.actors is None and time.monotonic() - self._looked > _LOOK_FOR_NODES_SECONDS:
            self._looked, self._wanted = time.monotonic(), max(1, actor_capacity(self._ray, self.needs))
        while len(self._evaluators) < self._wanted:
            self._made += 1
            options = {**self._options, "name": f"evaluator-{self._made}"}
            actor = self._actor.options(**options).remote(self._shared, self.device, versions())
            self._evaluators.append(_Actor(actor, actor.ready.remote()))
        for evaluator in [e for e in self._evaluators if not e.ready][: len(self._evaluators) - self._wanted]:
            self._drop(evaluator)

    def _say_when_alone(self) -> None:
        """Warns while no evaluator is alive, and raises `RunError` once that took `timeout` seconds."""
        now = time.monotonic()
        if self.alive or not self._queue:
            self._alone_since = self._said_alone = now
        elif now - self._alone_since > self.timeout:
            raise RunError(
                f"no evaluator was alive for {self.timeout:g} s, and {len(self._queue)} subnets are left to score: see "
                "`ray status`; every finished evaluation is kept, continue with --resume (or raise --evaluator-timeout)"
            )
        elif now - self._said_alone > _SAY_ALONE_SECONDS:
            self._said_alone = now
            _log.warning("no evaluator is alive: waiting for resources for one (Ctrl-C ends the wait)")

    def _drop(self, evaluator: _Actor) -> None:
        if evaluator in self._evaluators:
            self._evaluators.remove(evaluator)
            self._ray.kill(evaluator.actor)

    # ---------------------------------------------------------------- the feeder

    def _hand_out(self) -> None:
        """Gives chunks to evaluators, the least busy first; two each while much is left, so that none ever waits."""
        ready = [evaluator for evaluator in self._evaluators if evaluator.ready]
        while ready and self._queue:
            suspect = bool(self._deaths[self._queue[0]])
            most = 2 if len(self._queue) > 4 * len(ready) and not suspect else 1
            evaluator = min(ready, key=lambda each: each.busy)
            if evaluator.busy >= most:
                return
            subnets = [self._queue.popleft() for _ in range(1 if suspect else self._chunk_size(len(ready)))]
            self._send(evaluator, _Chunk(subnets, weight=2 if suspect else 1))
        idle = [evaluator for evaluator in ready if not evaluator.busy]
        for evaluator, chunk in zip(idle, self._stragglers() if idle else ()):
            self._send(evaluator, chunk)

    def _chunk_size(self, evaluators: int) -> int:
        """Half of an even share of the queue, but no more than a few seconds of work."""
        worth = _CHUNK_SECONDS / max(1e-6, statistics.median(self._seconds)) if self._seconds else 4
        return max(1, int(min(len(self._queue) / (2 * evaluators), worth, MAX_IN_CHUNK)))

    def _stragglers(self) -> list[_Chunk]:
        """The chunks that take over twice as long as they should and have no double yet, the longest first."""
        usual = statistics.median(self._seconds) if self._seconds else math.inf
        late = [
            chunk
            for _, chunk in self._running.values()
            if chunk.copies == 1 and not chunk.done and chunk.age > 1.0 + 2 * usual * len(chunk.subnets)
        ]
        return sorted(late, key=lambda chunk: -chunk.age)

    def _send(self, evaluator: _Actor, chunk: _Chunk) -> None:
        ref = evaluator.actor.run.remote(chunk.subnets, self._best)
        evaluator.busy += chunk.weight
        chunk.copies += 1
        self._running[ref] = (evaluator, chunk)

    def _take(self, ref: Any) -> list[tuple[Subnet, Outcome]]:
        """The outcomes of a finished call; none if it reports that an evaluator is ready, or died."""
        errors = importlib.import_module("ray.exceptions")
        if ref not in self._running:
            return self._take_start(ref, errors)
        evaluator, chunk = self._running.pop(ref)
        evaluator.busy -= chunk.weight
        chunk.copies -= 1
        try:
            outcomes = self._ray.get(ref)
        except errors.RayTaskError as error:  # scores that raise are outcomes: this is a mistake of the user, or ours
            raise error.cause if isinstance(error.cause, NasError) else NasError(ray_message(error)) from None
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
                raise NasError(f"evaluators do not start on this cluster: {ray_message(error)}") from None
            if evaluator:
                self._drop(evaluator)
            return []
        if problem:
            raise NasError(problem)
        if evaluator:
            evaluator.ready = True
        return []

    def _lose(self, chunk: _Chunk, error: Exception) -> None:
        """Queues the subnets of a dead evaluator again, one by one; gives up a subnet that kills every evaluator."""
        _log.info("%d subnets are handed out again: %s", len(chunk.subnets), ray_message(error))
        for subnet in reversed(chunk.subnets):
            self._deaths[subnet] += 1
            if self._deaths[subnet] < MAX_DEATHS:
                self._queue.appendleft(subnet)
            else:
                message = f"{MAX_DEATHS} evaluators died with it; the last: {ray_message(error)}"
                self._lost.append((subnet, Outcome(None, message[:200], 0.0)))

    def _measure(self, found: int) -> None:
        self._alive.set(self.alive)
        if found:
            self._evaluated.inc(found)


@dataclass(eq=False)
class _Actor:
    """An actor, the call that returns when it is ready, and the number of chunks it holds (by weight)."""

    actor: Any
    started: Any
    ready: bool = False
    busy: int = 0


@dataclass(eq=False)
class _Chunk:
    """Subnets that are scored in one call, and the number of evaluators that work on them.

    One that was lost before has an evaluator for itself (`weight` 2), so that no others are blamed if that dies too.
    """

    subnets: list[Subnet]
    weight: int = 1
    copies: int = 0
    done: bool = False
    since: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds."""
        return time.monotonic() - self.since


class _Scorer:
    """The actor. `ready` returns the reason why it cannot start, in one line, or None."""

    def __init__(self, packed: Any, device: str, wanted: dict[str, str]) -> None:
        self.problem = difference(wanted, versions())
        if not self.problem:
            try:
                self.executor = LocalExecutor(unpacked(packed, device))
            except Exception as error:
                self.problem = f"the score cannot be loaded on node {socket.gethostname()}: {one_line(error)}"

    def ready(self) -> str | None:
        return self.problem

    def run(self, subnets: list[Subnet], best: Evaluation | None) -> list[Outcome]:
        return [outcome for chunk in self.executor.run(subnets, best) for outcome in chunk]


def _path(subnet: Subnet) -> tuple[tuple[int, ...], int, tuple[tuple[int, float], ...]]:
    """Sorting by this puts subnets with the same first layers side by side."""
    return subnet.front_end, subnet.embed_dim, tuple(zip(subnet.heads, subnet.ffn_ratios))
