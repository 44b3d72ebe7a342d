"""Scores every subnet of a small space; subnets that share first layers are scored together.

    python -m benchmarks.score_table --space benchmarks/enumerable.toml --out enumerable.npz

An interrupted run continues when the same command is run again. The file holds `vectors` (N, entries) from
`Space.encode`, `scores` (N,), and `weights`, the fingerprint of the supernet that was scored.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from benchmarks._common import command_line, header
from evaluators import scores
from search_spaces import Space, Subnet, get_space
from search_spaces.files import replacing
from supernet import load_supernet


def path(space: Space, subnet: Subnet) -> tuple[tuple[int, int, float], ...]:
    """Embed dim, then (layer, heads, FFN ratio): sorted by it, subnets with equal first layers are neighbours."""
    layers = space.layers_of(subnet).items()
    return ((subnet.embed_dim, 0, 0.0), *((layer, heads, ratio) for layer, (heads, ratio) in layers))


def main() -> None:
    parser = command_line(__doc__)
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
    subnets = sorted(model.space, key=lambda subnet: path(model.space, subnet))
    vectors = np.array([model.space.encode(subnet) for subnet in subnets], dtype=np.int8)
    values = np.full(len(subnets), np.nan)
    if args.out.exists():
        saved = np.load(args.out)
        if str(saved["weights"]) == score.settings["weights"] and np.array_equal(saved["vectors"], vectors):
            values = saved["scores"]
    start_time, done = time.monotonic(), 0
    for start in track(range(0, len(subnets), args.chunk), "scoring"):
        rows = slice(start, start + args.chunk)
        if np.isnan(values[rows]).any():
            values[rows] = score(subnets[rows])
            done += len(values[rows])
            with replacing(args.out) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, vectors=vectors, scores=values, weights=score.settings["weights"])
    seconds = time.monotonic() - start_time
    print(
        f"{done:,} subnets in {seconds:.0f} s ({seconds / max(done, 1) * 1e3:.1f} ms each), {score.seconds} s of speech"
    )
    print(f"scores {values.min():.4f} to {values.max():.4f}\n{header()}")


if __name__ == "__main__":
    main()
