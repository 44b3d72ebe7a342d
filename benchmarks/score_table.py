"""The score of every subnet of a small space, by walking shared first layers; killed and run again it goes on.

python benchmarks/score_table.py --space benchmarks/enumerable.toml --out benchmarks/enumerable.npz

The file holds `vectors` (N, entries) as `Space.encode` gives them, `scores` (N,), and `weights`, the fingerprint of the
supernet that was scored.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from _common import header
from rich.progress import track

from evaluators import scores
from evaluators.scores.teacher_distance import _path
from search_spaces import get_space
from supernet import load_supernet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supernet", default="hubert-tiny")
    parser.add_argument("--space", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--chunk", type=int, default=256)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    model = load_supernet(args.supernet)
    model.use_space(get_space(args.space))
    score = scores.distillation(model)
    subnets = sorted(model.space, key=lambda subnet: _path(model.space, subnet))
    vectors = np.array([model.space.encode(subnet) for subnet in subnets], dtype=np.int8)
    found = np.full(len(subnets), np.nan)
    if args.out.exists():
        held = np.load(args.out)
        if str(held["weights"]) == score.settings["weights"] and np.array_equal(held["vectors"], vectors):
            found = held["scores"]
    started, done = time.monotonic(), 0
    for start in track(range(0, len(subnets), args.chunk), "scoring"):
        rows = slice(start, start + args.chunk)
        if np.isnan(found[rows]).any():
            found[rows] = score(subnets[rows])
            done += len(found[rows])
            partial = args.out.with_suffix(".partial.npz")
            np.savez_compressed(partial, vectors=vectors, scores=found, weights=score.settings["weights"])
            partial.replace(args.out)
    seconds = time.monotonic() - started
    print(
        f"{done:,} subnets in {seconds:.0f} s ({seconds / max(done, 1) * 1e3:.1f} ms each), {score.seconds} s of speech"
    )
    print(f"scores {found.min():.4f} to {found.max():.4f}\n{header()}")


if __name__ == "__main__":
    main()
