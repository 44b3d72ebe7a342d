"""Latency of the extracted module, measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from evaluators.base import Measurement
from search_spaces import NasError, Subnet

if TYPE_CHECKING:
    from supernet.layers import Hubert
    from supernet.model import HubertSupernet

__all__ = ["LatencyCost"]


class LatencyCost:
    """Milliseconds of one forward pass of the EXTRACTED module, batch 1: median of interleaved repeats.

    Several subnets are measured in turns, so that a slow spell of the machine falls on all of them. `spread` is
    the interquartile range. float32, `threads` CPU threads, on `seconds` of noise: time does not depend on words.
    """

    name = "latency_ms"
    unit = "ms"

    def __init__(
        self, supernet: HubertSupernet, seconds: float = 2.0, threads: int = 1, repeats: int = 15, device: str = "cpu"
    ) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise NasError(f"device={device} is not on this machine; use cpu")
        if supernet.space.network.frames(round(seconds * 16_000)) < 1 or threads < 1 or repeats < 1:
            raise NasError(
                f"latency needs at least one frame of audio, one thread and one repeat; "
                f"got seconds={seconds:g}, threads={threads}, repeats={repeats}"
            )
        self.supernet, self.seconds, self.threads, self.repeats, self.device = (
            supernet,
            seconds,
            threads,
            repeats,
            device,
        )

    @property
    def convention(self) -> str:
        return f"{self.seconds:g} s, batch 1, float32, {self.device}, {self.threads} thread{'s' * (self.threads > 1)}"

    def of(self, subnet: Subnet) -> float:
        """Median milliseconds of one subnet."""
        return float(self.measure([subnet])[0].value)

    @torch.inference_mode()
    def measure(self, subnets: Sequence[Subnet]) -> list[Measurement]:
        """A measurement for each subnet, from rounds in which each runs once."""
        nets = [self.supernet.extract(subnet).to(self.device).eval() for subnet in subnets]
        wav = torch.randn(1, round(self.seconds * 16_000), generator=torch.Generator().manual_seed(0)).to(self.device)
        times: list[list[float]] = [[] for _ in nets]
        with _threads(self.threads):
            for net in nets:  # warm-up: allocator, oneDNN primitives
                for _ in range(3):
                    self._milliseconds(net, wav)
            for _ in range(self.repeats):
                for net, own in zip(nets, times, strict=True):
                    own.append(self._milliseconds(net, wav))
        return [Measurement(statistics.median(own), self.unit, self.convention, _iqr(own)) for own in times]

    def _milliseconds(self, net: Hubert, wav: torch.Tensor) -> float:
        self._wait()
        before = time.perf_counter()
        net(wav)
        self._wait()
        return 1e3 * (time.perf_counter() - before)

    def _wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _iqr(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    quarters = statistics.quantiles(values, n=4)
    return quarters[2] - quarters[0]
