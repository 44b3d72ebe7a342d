"""A machine that is not there: made-up latencies of a real space."""

import numpy as np

from evaluators.costs.latency.calibration import LatencyCalibration, design
from evaluators.costs.latency.measure import Timings
from evaluators.costs.latency.target import Target, machine
from tests.spaces import COARSE

SPACE = COARSE


def made_up_ms(subnet):
    """Not a formula of the model's: products in blocks of 48 columns, and a cache that 3 MB of weights overflow."""
    ms, weights = 4.0 + subnet.embed_dim / 60, 0
    for heads, F in zip(subnet.heads, subnet.ffn_dims, strict=True):
        blocks = 4 * -(-32 * heads // 48) * subnet.embed_dim + 2 * -(-F // 48) * subnet.embed_dim
        ms, weights = ms + 0.11 + blocks / 9000, weights + 4 * subnet.embed_dim * (4 * 32 * heads + 2 * F)
    return ms + max(0, weights - 3e6) / 6e6


def timings(n=100, seed=0, noise=0.004, target=None):
    rng = np.random.default_rng(seed)
    subnets = tuple(design(SPACE, n, rng))
    ms = np.array([made_up_ms(subnet) for subnet in subnets]) * np.exp(noise * rng.normal(size=n))
    middle = SPACE.middle
    error = np.full(n, 2 * noise)
    return Timings(target or Target(), subnets, ms, error, ms, middle, made_up_ms(middle), 45, 0.02, 0.0, 0.01)


def calibration(target=None, **settings):
    target = target or Target()
    here = machine(target.device), target.versions()
    return LatencyCalibration(SPACE, timings(target=target, **settings), *here, "2026-01-01T00:00:00+00:00")
