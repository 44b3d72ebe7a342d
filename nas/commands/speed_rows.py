"""How fast scoring, counting and training are on this machine, each against a slow way of doing the same.

Fast and slow take turns in one process, on the same speech and the same subnets, and what is shown are the ratios of
each turn. The slow way is `from_waveform` here (set the subnet, then waveform -> front end -> encoder -> heads, as
LightHuBERT's own code does it); `benchmarks.speed` puts LightHuBERT's code itself in its place.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

import nas
from evaluators.costs import macs, params
from evaluators.scores.teacher_distance import DistillationScore
from nas.commands.common import computes_bf16
from search_spaces import Space, Subnet, get_space, space_from_dict
from supernet.calibration import CalibrationSpeech
from supernet.checkpoint import load_supernet
from supernet.model import HubertSupernet
from supernet.training.batches import Batch
from supernet.training.losses import distillation_loss, step_subnets
from supernet.training.recipe import StageRecipe
from supernet.training.step import optimiser_of, train_step

__all__ = [
    "Race",
    "Row",
    "count_rows",
    "encoder_row",
    "free_layers",
    "from_waveform",
    "machine_rows",
    "memory_row",
    "precisions",
    "random_supernet",
    "sandwich_from_waveform",
    "scores_of",
    "steps_saved",
    "training_row",
]

Slow = Callable[[Subnet], float]
T = TypeVar("T", int, float)
_HEAD_DIM = 768


@dataclass(frozen=True)
class Row:
    """One line of the table: how many times as good as `against`, turn by turn."""

    work: str
    against: str
    goal: str
    ratios: Sequence[float]
    note: str = ""
    unit: str = "x"

    @property
    def summary(self) -> str:
        """Median (least – most)."""
        if not self.ratios:
            return "—"
        scale, unit, digits = (100, " %", 0) if self.unit == "%" else (1, "x", 1 if max(self.ratios) < 100 else 0)
        low, middle, high = (scale * f(self.ratios) for f in (min, statistics.median, max))
        return f"{middle:,.{digits}f}{unit} ({low:,.{digits}f} – {high:,.{digits}f})"


def random_supernet(space: str, seed: int = 0) -> HubertSupernet:
    """A supernet of the named space with weights at random, and a head on its last layer: time is the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HubertSupernet(get_space(space), (12,), _HEAD_DIM).eval()


def precisions(device: torch.device) -> tuple[str, ...]:
    """fp32, and bf16 where the device computes in it."""
    return ("fp32", "bf16") if computes_bf16(device.type) else ("fp32",)


@torch.no_grad()
def scores_of(model: HubertSupernet, wav: Tensor, seed: int = 0) -> dict[str, DistillationScore]:
    """Scores on wav (B, S) by the device's precisions, against targets at random."""
    features = {front_end: list(own) for front_end, own in model.features_of_each(wav).items()}
    frames, generator = model.space.network.frames(wav.shape[1]), torch.Generator().manual_seed(seed)
    targets = torch.randn(len(wav), frames, len(model.head_layers), model.head_dim, generator=generator)
    model.calibration = CalibrationSpeech.of(features, list(targets))
    return {precision: DistillationScore(model, precision=precision) for precision in precisions(wav.device)}


def from_waveform(model: HubertSupernet, wav: Tensor) -> Slow:
    """Scores one subnet from wav (B, S), on the targets of `scores_of`."""
    targets = torch.stack(_calibration(model).targets)

    @torch.no_grad()
    def score(subnet: Subnet) -> float:
        with model.active(subnet):
            predictions = model.predict(model.extract_features(wav).hidden_states)
            return float(distillation_loss(predictions, targets, None).mean())

    return score


@dataclass
class Race:
    """A score that times itself: each call runs all of `fast` on its subnets, and `slow` on `sample` of them."""

    fast: Mapping[str, Callable[[Sequence[Subnet]], list[float]]]
    slow: Slow
    sample: int = 1
    higher_is_better: bool = False
    ratios: dict[str, list[float]] = field(default_factory=dict)
    found: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    difference: float = 0.0
    calls: int = 0

    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        """The scores of the first of `fast`."""
        chosen = [(self.calls * self.sample + i) % len(subnets) for i in range(min(self.sample, len(subnets)))]
        before = time.perf_counter()
        slow = [self.slow(subnets[i]) for i in chosen]
        each = (time.perf_counter() - before) / len(chosen)
        self.seconds.setdefault("slow", []).append(each)
        for name, score in self.fast.items():
            before = time.perf_counter()
            result = score(subnets)
            took = (time.perf_counter() - before) / len(subnets)
            self.ratios.setdefault(name, []).append(each / took)
            self.seconds.setdefault(name, []).append(took)
            self.found.setdefault(name, []).extend(result)
        first = self.found[next(iter(self.fast))][-len(subnets) :]
        differences = [abs(first[i] - value) / abs(value) for i, value in zip(chosen, slow, strict=True)]
        self.difference = max(self.difference, *differences)
        self.calls += 1
        return first

    def rows(self, work: str, against: str, goal: str) -> list[Row]:
        """A row for each precision."""
        slow = statistics.median(self.seconds["slow"])
        return [
            Row(
                f"{work}, {name}",
                against,
                goal,
                self.ratios[name],
                f"{1e3 * slow:,.0f} ms -> {1e3 * statistics.median(self.seconds[name]):,.1f} ms a subnet; "
                + (
                    f"scores differ by {self.difference:.0e}"
                    if name == "fp32"
                    else f"rank correlation to fp32 {_kendall(self.found['fp32'], self.found[name]):.3f}"
                ),
            )
            for name in self.fast
        ]


def encoder_row(score: DistillationScore, subnet: Subnet, turns: int = 7) -> Row:
    """The rate of one subnet's layers, warm, against torch.mm on the shapes of its linear layers."""
    lengths = [bucket.shape[1] for part in score._parts for bucket in part.speech.buckets for _ in bucket]
    N, D, head_dim = sum(lengths), subnet.embed_dim, score.model.space.network.head_dim
    shapes = [
        shape
        for heads, F in zip(subnet.heads, subnet.ffn_dims, strict=True)
        for shape in (*[(D, heads * head_dim)] * 3, (heads * head_dim, D), (D, F), (F, D))
    ]
    operands = [(torch.randn(N, inputs), torch.randn(inputs, outputs)) for inputs, outputs in shapes]
    linear = sum(2 * N * inputs * outputs for inputs, outputs in shapes)
    products = sum(4 * T * T * heads * head_dim for heads in subnet.heads for T in lengths)
    score([subnet])
    rates = []
    for _ in range(turns):
        multiply = _timed(lambda: [torch.mm(x, weight) for x, weight in operands])
        rates.append((linear / multiply, (linear + products) / _timed(lambda: score([subnet]))))
    return Row(
        "encoder of one subnet, fp32",
        "torch.mm on the same shapes",
        ">= 70 %",
        [own / mm for mm, own in rates],
        f"torch.mm {1e-9 * statistics.median(mm for mm, _ in rates):.0f} GFLOP/s",
        "%",
    )


def count_rows(space: Space, turns: int = 7, n: int = 100_000) -> list[Row]:
    """Params and MACs of encoded subnets a second, and as a multiple of fvcore's on extracted modules."""
    rng = np.random.default_rng(0)
    vectors = np.array([space.encode(space.sample(rng)) for _ in range(1000)], dtype=np.int8).repeat(n // 1000, 0)
    tables = [params(space).table, macs(space).table]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rates = [n / _timed(lambda: [table.of_vectors(vectors) for table in tables]) for _ in range(turns)]
    torch.set_num_threads(threads)
    work, note = "params and MACs of a batch of subnets", f"{statistics.median(rates):.2e} a second on one core"
    rows = [Row(work, "10^7 a second on one core", ">= 1x", [rate / 1e7 for rate in rates], note)]
    if find_spec("fvcore") is None:
        return [*rows, Row(work, "fvcore on a module", ">= 10^6x", [], "fvcore is not installed")]
    from evaluators.costs.counters import fvcore_count

    net = HubertSupernet(space).extract(space.middle).eval()
    slow = [_timed(lambda: fvcore_count(net, torch.zeros(1, 16_000))) for _ in range(2)]
    each = statistics.median(slow)
    ratios = [rate * each for rate in rates]
    return [*rows, Row(work, "fvcore on a module", ">= 10^6x", ratios, f"fvcore {each:.2f} s a module")]


def sandwich_from_waveform(model: HubertSupernet, wav: Tensor, targets: Tensor) -> Callable[[Sequence[Subnet]], Any]:
    """A training step in which each subnet runs from the waveform, with torch's plain AdamW."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0)

    def step(subnets: Sequence[Subnet]) -> None:
        optimiser.zero_grad()
        losses = []
        for subnet in subnets:
            with model.active(subnet):
                predictions = model.predict(model.extract_features(wav).hidden_states)
                losses.append(distillation_loss(predictions, targets, None).mean())
        torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return step


def training_row(
    model: HubertSupernet,
    wav: Tensor,
    against: str,
    slow: Callable[[Sequence[Subnet]], Any],
    turns: int = 3,
    precision: str = "fp32",
) -> Row:
    """A sandwich step of stage 2 on wav (B, S). `slow` takes the step's subnets; it is warmed up, as is ours."""
    recipe = StageRecipe(stage=2, steps=1000, learning_rate=0.0, mask_prob=0.0, precision=precision)
    lengths = torch.full((len(wav),), wav.shape[1])
    batch = Batch(wav, lengths, ("speech",), torch.stack(_calibration(model).targets))
    optimiser = optimiser_of(model, recipe)
    ratios, times = [], []
    model.train()
    for step in range(turns + 1):
        subnets = step_subnets(model.space, recipe.sampler, np.random.default_rng([recipe.seed, 2, 1, step]))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            theirs = _timed(lambda subnets=subnets: slow(subnets))  # type: ignore[misc]
        ours = _timed(lambda step=step: train_step(model, recipe, optimiser, step, batch, "cpu"))  # type: ignore[misc]
        if step:
            ratios.append(theirs / ours)
            times.append((theirs, ours))
    model.eval()
    theirs, ours = (statistics.median(column) for column in zip(*times, strict=True))
    return Row(
        f"stage-2 training step, {precision}", against, ">= 1.5x", ratios, f"{theirs:.1f} s -> {ours:.1f} s a step"
    )


def memory_row(work: Callable[[], None], slow: Callable[[], None], against: str) -> Row:
    """Peak memory of a process of its own that does `work`, and of one that does `slow`, both importable functions."""
    ours, theirs = (_peak_bytes(each) for each in (work, slow))
    note = f"{ours / 2**20:,.0f} MiB; {against}: {theirs / 2**20:,.0f} MiB"
    return Row("memory at the peak", against, "<= 1.2x", [ours / theirs], note)


def free_layers(space: Space, free: int) -> Space:
    """The part of `space` at its full depth whose last `free` layers are free, and the others the middle subnet's.

    Free means at most three heads and FFN ratios over 0, of three embed dims and the whole front end.
    """
    heads, ratios, depth = space.middle.heads[0], space.middle.ffn_ratios[0], max(space.depths)
    held = space.network.num_layers - free
    return space_from_dict(
        {
            **space.to_dict(),
            "name": f"{space.name}-{free}-free",
            "embed_dims": _three(space.embed_dims),
            "front_ends": [space.network.conv_channels],
            "heads": [[heads]] * held + [_three(choices) for choices in space.heads[held:]],
            "ffn_ratios": [[ratios]] * held + [_three(choices) for choices in space.ffn_ratios[held:]],
            "depth_map": {str(depth): [layer + 1 for layer in space.kept_layers(depth)]},
        }
    )


def _three(choices: Sequence[T]) -> list[T]:
    """The least, the middle and the largest of the choices that are not 0."""
    some = [choice for choice in choices if choice]
    return [some[i] for i in sorted({0, (len(some) - 1) // 2, len(some) - 1})]


def machine_rows(seconds: float = 16.0) -> Iterator[Row]:
    """The rows of `nas bench`: random weights, and noise for speech, neither of which changes the time.

    Fewer turns, subnets, generations and free layers than `benchmarks.speed` has, to finish in three minutes.
    """
    wav = torch.randn(round(seconds / 4), 64_000, generator=torch.Generator().manual_seed(0))
    against, rng = "waveform to head, one by one", np.random.default_rng(0)
    small, base = random_supernet("lighthubert-small"), random_supernet("lighthubert-base")
    for model, goal, n in ((small, ">= 6x", 64), (base, ">= 3x", 16)):
        race = _race(model, wav)
        subnets = [model.space.sample(rng) for _ in range(n)]
        for _ in range(2):
            race(subnets)
        kind = model.space.name.removeprefix("lighthubert-")
        yield from race.rows(f"score {n} random {kind}-space subnets", against, goal)
    race = _race(small, wav)
    costs = {"params": params(small.space)}
    nas.search(small.space, race, costs=costs, budgets=("params<=27M",), searcher="evolution", evals=48, seed=0)
    yield from race.rows(f"{race.calls} generations of evolution, small space", against, ">= 8x")
    tiny = load_supernet("hubert-tiny")
    part = free_layers(tiny.space, 3)
    score = DistillationScore(tiny)
    race = Race({"fp32": score}, lambda subnet: score.one_by_one([subnet])[0], 4)
    for D in part.embed_dims:
        race([subnet for subnet in part if subnet.embed_dim == D])
    work = f"table of a 3-free-layer sub-space of hubert-tiny ({part.size:,} subnets)"
    yield from race.rows(work, "our single-subnet path, one by one", ">= 8x")
    yield encoder_row(scores_of(small, wav)["fp32"], small.space.middle)
    yield memory_row(_use_fast, _use_slow, against)
    yield from count_rows(small.space)
    scores_of(small, wav[:1])
    step = sandwich_from_waveform(small, wav[:1], torch.stack(_calibration(small).targets))
    yield training_row(small, wav[:1], "each subnet from the waveform", step, turns=2)


def _race(model: HubertSupernet, wav: Tensor) -> Race:
    fast = scores_of(model, wav)
    race = Race(fast, from_waveform(model, wav), 3)
    for score in fast.values():
        score([model.space.middle])  # warm
    race.slow(model.space.middle)
    return race


def _use_fast() -> None:
    model, wav, subnets = _small_and_speech()
    scores_of(model, wav)["fp32"](subnets)


def _use_slow() -> None:
    model, wav, subnets = _small_and_speech()
    scores_of(model, wav)
    score = from_waveform(model, wav)
    for subnet in subnets:
        score(subnet)


def _small_and_speech() -> tuple[HubertSupernet, Tensor, list[Subnet]]:
    model, rng = random_supernet("lighthubert-small"), np.random.default_rng(0)
    return model, torch.randn(4, 64_000), [model.space.sample(rng) for _ in range(4)]


def _calibration(model: HubertSupernet) -> CalibrationSpeech:
    assert model.calibration is not None, "scores_of makes it"
    return model.calibration


def steps_saved(space: Space, batches: Sequence[Sequence[Subnet]]) -> float:
    """How many times fewer half layers are run when each batch is scored together than one by one."""
    apart = together = 0
    for batch in batches:
        prefixes = set()
        for subnet in batch:
            steps = [step for layer, (h, r) in space.layers_of(subnet).items() for step in ((layer, h), (layer, r))]
            apart += len(steps)
            prefixes |= {(subnet.embed_dim, *steps[: i + 1]) for i in range(len(steps))}
        together += len(prefixes)
    return apart / together


def _peak_bytes(work: Callable[[], None]) -> int:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_run_and_measure, work).result()


def _run_and_measure(work: Callable[[], None]) -> int:
    """On Linux the most this program ever held; elsewhere getrusage's, which counts the parent before the fork too."""
    work()
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _timed(call: Callable[[], Any]) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def _kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau, without ties."""
    x, y = np.asarray(a[:2000]), np.asarray(b[:2000])
    upper = np.triu_indices(len(x), 1)
    return float(np.mean(np.sign((x[:, None] - x)[upper]) * np.sign((y[:, None] - y)[upper])))
