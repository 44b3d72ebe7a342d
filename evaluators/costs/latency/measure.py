"""Milliseconds of exported subnets, measured so that a machine's moods cancel out.

The time of one identical call varies by 20-35 % on shared machines, mostly in slow spells that fall on whatever runs.
So subnets run in turns, in groups with a reference subnet, in a new order each round; each round (a row) has a level
of its own, and a subnet's time is what is left of its logarithms, as a median over rounds: Tukey's median polish of
the rounds x subnets table. Each subnet is built anew in several passes, in other company: where its weights lie in
memory is worth 1 % alone. Milliseconds are the ratio to the reference times the reference's own: the median of this
session, or of the calibration it is compared with.
"""

from __future__ import annotations

import gc
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evaluators.costs.latency.target import Target
from search_spaces import Network, Subnet
from search_spaces.types import Array, JsonObject

if TYPE_CHECKING:
    from supernet.layers import Hubert
    from supernet.model import HubertSupernet

__all__ = [
    "GROUP",
    "MIN_ROUNDS",
    "PASSES",
    "Runners",
    "Timings",
    "WARM_UPS",
    "measure",
    "onnx_session",
    "polish",
    "random_weights",
    "rounds_of",
]

Progress = Callable[[int, int], None]

GROUP = 12
PASSES = 3
MAX_MS = 1e9
MAX_ROUNDS, MIN_ROUNDS = 15, 5
WARM_UPS = 3
_NOISY = 0.03  # an error of a measurement (95 %) over which a machine is called noisy
_DRIFT = 0.10
_OUTLIER = 6.0
_MANY = 10
_MORE_PASSES = 2  # at most, for subnets whose passes are at odds:
_AT_ODDS = 3.0  # a spread so many times the usual


@dataclass(frozen=True)
class Timings:
    """Latencies of `subnets` on `target`, (N,): `ms`, and `error`: the 95 % half-width of each, relative.

    `reference_ms` is the reference's milliseconds that ratios were multiplied with, `raw_ms` (N,) the plain medians,
    `drift` how far the reference's own speed moved within the session (5th to 95th percentile), `slower` how much
    slower it was than `reference_ms`, `outliers` the share of samples far off.
    """

    target: Target
    subnets: tuple[Subnet, ...]
    ms: Array
    error: Array
    raw_ms: Array
    reference: Subnet
    reference_ms: float
    rounds: int
    drift: float
    slower: float
    outliers: float

    @property
    def indistinguishable(self) -> float:
        """The relative difference under which two of these subnets cannot be distinguished."""
        return float(np.median(self.error) * 2**0.5)

    def warnings(self) -> list[str]:
        """Warnings about the machine, one line each."""
        result = []
        if self.indistinguishable > _NOISY:
            result.append(
                f"the machine is too noisy to distinguish subnets that differ by less than {self.indistinguishable:.1%}"
            )
        if self.drift > _DRIFT:
            result.append(f"the machine's speed moved by {self.drift:.0%} in the session; ratios to the reference hold")
        if abs(self.slower) > _DRIFT:
            word = "slower" if self.slower > 0 else "faster"
            result.append(f"the machine is {abs(self.slower):.0%} {word} now than when it was calibrated")
        if self.outliers > 0.1:
            result.append(f"{self.outliers:.0%} of the samples are outliers; medians pass over them")
        return result

    def to_dict(self) -> JsonObject:
        """Plain containers, for `from_dict`."""
        return {
            "target": self.target.to_dict(),
            "reference": self.reference.to_dict(),
            "reference_ms": self.reference_ms,
            "rounds": self.rounds,
            "drift": self.drift,
            "slower": self.slower,
            "outliers": self.outliers,
            "subnets": [
                {"subnet": subnet.to_dict(), "ms": ms, "error": error, "raw_ms": raw}
                for subnet, ms, error, raw in zip(
                    self.subnets, self.ms.tolist(), self.error.tolist(), self.raw_ms.tolist(), strict=True
                )
            ],
        }

    @classmethod
    def from_dict(cls, fields: JsonObject) -> Timings:
        rows = fields["subnets"]
        ms, error, raw = (np.array([row[key] for row in rows], dtype=float) for key in ("ms", "error", "raw_ms"))
        scalars = [fields[key] for key in ("reference_ms", "rounds", "drift", "slower", "outliers")]
        known = np.concatenate([ms, raw, [scalars[0]]])
        if any(type(each) not in (int, float) for each in scalars) or not np.isfinite([*error, *scalars]).all():
            raise ValueError(f"its numbers must be finite; got {scalars}")
        if not (np.isfinite(known) & (known > 0) & (known < MAX_MS)).all():
            raise ValueError("its latencies must be positive, finite milliseconds")
        return cls(
            Target.from_dict(fields["target"]),
            tuple(Subnet.from_dict(row["subnet"]) for row in rows),
            ms, error, raw,
            Subnet.from_dict(fields["reference"]),
            *scalars,
        )  # fmt: skip


def measure(
    supernet: HubertSupernet,
    subnets: Sequence[Subnet],
    target: Target,
    reference: Subnet | None = None,
    reference_ms: float | None = None,
    seconds: float = 60.0,
    passes: int = PASSES,
    shipped: bool = False,
    seed: int = 0,
    on_progress: Progress | None = None,
    runners: Runners | None = None,
) -> Timings:
    """Times `subnets` on this machine; `reference`: default is the middle subnet of the space.

    About `seconds` are spent running them (5 to 15 rounds a pass). `shipped`: onnxruntime times the exporter's own
    file of each subnet, not the same graph made from a template (seconds quicker a subnet, and the same speed).
    """
    target.check_here()
    reference = reference or supernet.space.middle
    columns = list(dict.fromkeys([reference, *subnets]))
    rng, runners = np.random.default_rng(seed), runners or Runners(supernet, target, shipped)
    rows: list[Array] = []
    of_pass: list[int] = []  # of each row
    rounds, done, which_pass = MAX_ROUNDS, 0, 0
    left = np.arange(1, len(columns))
    with _quiet_machine(target):
        while which_pass < passes or (which_pass < passes + _MORE_PASSES and len(left)):
            order = rng.permutation(left)
            for group in np.array_split(order, max(1, -(-len(order) // GROUP))):
                which = [0, *group.tolist(), 0]  # the reference twice: every other subnet hangs on it
                built = [runners(columns[i]) for i in which]
                once = sum(_warmed(run) for run in built)
                if not rows:
                    share = seconds / passes * len(which) / (len(columns) + 2 * len(order) / GROUP)
                    rounds = int(np.clip(share / (once / 1e3), MIN_ROUNDS, MAX_ROUNDS))
                rows += rounds_of(built, which, rounds, len(columns), rng)
                of_pass += [which_pass] * (len(rows) - len(of_pass))
                done += len(group)
                del built
                gc.collect()
                if on_progress:
                    on_progress(done, passes * (len(columns) - 1) + max(0, which_pass + 1 - passes) * len(left))
            which_pass += 1
            if which_pass >= passes:
                left = _at_odds(np.array(rows), np.array(of_pass)) if passes > 1 else left[:0]
    return _timings(np.array(rows), np.array(of_pass), columns, tuple(subnets), target, reference_ms)


def _at_odds(rows: Array, of_pass: Array) -> Array:
    """The columns (but the reference's) whose passes differ far more than is usual: to be measured once more."""
    spread = np.nanstd(_by_pass(np.log(rows), of_pass)[2], axis=0)[1:]
    return 1 + np.flatnonzero(spread > max(_AT_ODDS * float(np.median(spread)), _NOISY / 2)) if len(spread) else spread


def _by_pass(logs: Array, of_pass: Array) -> tuple[Array, Array, Array]:
    """Levels of rows and columns, and what is left of each column in each pass, (passes, columns), as a median."""
    levels, own = polish(logs)
    left = logs - levels[:, None] - own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a subnet that had no part in a pass: NaN
        return levels, own, np.array([np.nanmedian(left[of_pass == p], axis=0) for p in np.unique(of_pass)])


def polish(table: Array, rounds: int = 60) -> tuple[Array, Array]:
    """Levels of the rows and columns of a table with gaps (NaN), by medians: their sums leave residuals of median 0."""
    rows, columns = np.zeros(len(table)), np.zeros(table.shape[1])
    for _ in range(rounds):
        rows = np.nanmedian(table - columns, axis=1)
        step = np.nanmedian(table - rows[:, None], axis=0) - columns
        columns += step
        if np.abs(step).max() < 1e-7:
            break
    return rows, columns


def _timings(
    rows: Array,
    of_pass: Array,
    columns: Sequence[Subnet],
    subnets: tuple[Subnet, ...],
    target: Target,
    reference_ms: float | None,
) -> Timings:
    """`rows` (rounds of all groups and passes, 1 + subnets): milliseconds, NaN where a subnet was not in the group."""
    logs = np.log(rows)
    levels, own, passes = _by_pass(logs, of_pass)
    left = logs - levels[:, None] - own
    deviation = float(1.4826 * np.nanmedian(np.abs(left)))
    rounds = int(np.median((~np.isnan(rows)).sum(0)[min(1, len(columns) - 1) :]))
    ratios = passes[:, 1:] - passes[:, :1] if len(columns) > 1 else passes  # the reference's own noise is in each
    error = max(_between(ratios), 1.96 * 1.2533 * deviation * (2 / rounds) ** 0.5)
    reference = rows[:, 0]
    now = float(np.median(reference))
    level = now if reference_ms is None else reference_ms
    index = [columns.index(subnet) for subnet in subnets]
    low, high = np.quantile(np.exp(levels - np.median(levels)), [0.05, 0.95])
    return Timings(
        target, subnets,
        ms=level * np.exp(own[index] - own[0]),
        error=np.array([0.0 if i == 0 else error for i in index]),
        raw_ms=np.nanmedian(rows, axis=0)[index],
        reference=columns[0],
        reference_ms=level,
        rounds=rounds,
        drift=float(high - low),
        slower=now / level - 1,
        outliers=float(np.nanmean(np.where(np.isnan(left), np.nan, np.abs(left) > _OUTLIER * deviation))),
    )  # fmt: skip


def _between(of_pass: Array) -> float:
    """95 % half-width by how much the same subnet's ratio differs from pass to pass, (passes, subnets)."""
    passes, subnets = int(np.median((~np.isnan(of_pass)).sum(0))), of_pass.shape[1]
    if passes < 2:
        return 0.0
    freedom = (passes / (passes - 1)) ** 0.5
    if subnets >= _MANY:  # a median, so that a pass in which the machine was busy counts once
        return float(1.96 * 1.4826 * np.nanmedian(np.abs(of_pass)) * freedom / passes**0.5)
    return float(2.78 * np.sqrt(np.nanmean(of_pass**2)) * freedom / passes**0.5)  # Student's t of 4


def _warmed(run: Callable[[], float]) -> float:
    """The least of a few calls, which let allocators and kernels settle."""
    return min(run() for _ in range(WARM_UPS))


def rounds_of(
    runners: Sequence[Callable[[], float]], which: Sequence[int], rounds: int, columns: int, rng: np.random.Generator
) -> Iterator[Array]:
    """One row a round; what runs twice in a round counts with its mean logarithm."""
    for _ in range(rounds):
        taken: dict[int, list[float]] = {}
        for i in rng.permutation(len(runners)):
            taken.setdefault(which[i], []).append(runners[i]())
        row = np.full(columns, np.nan)
        for i, own in taken.items():
            row[i] = float(np.exp(np.mean(np.log(own))))
        yield row


class Runners:
    """`runners(subnet)`: a call that runs the exported subnet once on the target, and gives its milliseconds."""

    def __init__(self, supernet: HubertSupernet, target: Target, shipped: bool = False) -> None:
        self.supernet, self.target, self.shipped = supernet, target, shipped or target.dtype != "fp32"
        generator = torch.Generator().manual_seed(0)  # noise: time does not depend on words
        self.wav = torch.randn(target.batch, round(target.seconds * 16_000), generator=generator)
        self._noise: torch.Tensor | None = None
        self._exported: dict[Subnet, bytes] = {}  # few, and only where each takes seconds

    def __call__(self, subnet: Subnet) -> Callable[[], float]:
        if self.target.backend == "onnxruntime":
            return self._onnxruntime(subnet)
        net = self.supernet.extract(subnet).eval()
        if self.target.device == "cuda":
            return self._cuda(net)
        dtype = _torch_dtype(self.target.dtype)
        return _wall(self._compiled(net.to("cpu", dtype)), self.wav.to(dtype))

    def _compiled(self, net: Hubert) -> Any:
        return torch.compile(net, dynamic=False) if self.target.backend == "torch-compile" else net

    def _cuda(self, net: Hubert) -> Callable[[], float]:
        """A CUDA graph of the forward pass, between two events: launch times of single kernels have no part in it."""
        dtype = _torch_dtype(self.target.dtype)
        run, wav = self._compiled(net.to("cuda", dtype)), self.wav.to("cuda", dtype)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                run(wav)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            run(wav)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        used = run, wav  # a graph holds addresses alone

        def once(used: object = used) -> float:
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            return float(begin.elapsed_time(end))

        return once

    def _onnxruntime(self, subnet: Subnet) -> Callable[[], float]:
        session = onnx_session(self._graph(subnet), self.target)
        feeds = {"input_values": self.wav.numpy(), "attention_mask": np.ones(self.wav.shape, dtype=np.int64)}

        def once() -> float:
            before = time.perf_counter()
            session.run(["last_hidden_state"], feeds)
            return 1e3 * (time.perf_counter() - before)

        return once

    def _graph(self, subnet: Subnet) -> bytes:
        """The exported subnet's ONNX, or one like it with random weights."""
        from supernet.export.onnx_file import write_onnx
        from supernet.export.onnx_parts import joined_graph

        if self.shipped:
            if subnet not in self._exported:
                with tempfile.TemporaryDirectory() as scratch:
                    write_onnx(
                        self.supernet.extract(subnet).eval().cpu(), Path(scratch) / "model.onnx", self.target.dtype
                    )
                    self._exported[subnet] = (Path(scratch) / "model.onnx").read_bytes()
            return self._exported[subnet]
        network = self.supernet.space.network
        if self._noise is None:
            most = max(value.numel() for value in self.supernet.parameters())
            self._noise = 0.02 * torch.randn(most, generator=torch.Generator().manual_seed(0))
        weights = random_weights(network, subnet, self._noise)
        return joined_graph(network, self.supernet.frame_rule, subnet, weights).SerializeToString()  # type: ignore[no-any-return]


def random_weights(network: Network, subnet: Subnet, noise: torch.Tensor) -> dict[str, torch.Tensor]:
    """Random weights of a subnet, all from `noise` (N,), which must have as many numbers as the largest weight.

    What a graph computes does not matter to its time.
    """
    from supernet.layers import Hubert
    from supernet.weights import on_meta

    with on_meta():
        net = Hubert(network, subnet)
    weights: dict[str, torch.Tensor] = {}
    for name, value in net.state_dict().items():
        if not value.is_floating_point():
            weights[name] = torch.arange(value.numel())
        else:
            part = noise[: value.numel()]  # a matrix is transposed, as the exporter's are, so that nothing is copied
            weights[name] = part.view(*reversed(value.shape)).T if value.dim() == 2 else part.view(value.shape)
    return weights


def onnx_session(graph: bytes, target: Target) -> Any:
    """An onnxruntime session with the target's threads, which rest while other sessions have their turn."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = target.threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    provider = "CUDAExecutionProvider" if target.device == "cuda" else "CPUExecutionProvider"
    return onnxruntime.InferenceSession(graph, options, providers=[provider])


def _wall(run: Callable[[torch.Tensor], Any], wav: torch.Tensor) -> Callable[[], float]:
    def once() -> float:
        with torch.inference_mode():
            before = time.perf_counter()
            run(wav)
            return 1e3 * (time.perf_counter() - before)

    return once


def _torch_dtype(name: str) -> torch.dtype:
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


@contextmanager
def _quiet_machine(target: Target) -> Iterator[None]:
    """The target's number of threads, and no garbage collection in between."""
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(target.threads)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()
