"""How fast scoring, counting and training are, against s3prl's LightHuBERT on the same speech, subnets and weights.

python benchmarks/speed.py --audio speech/manifest.jsonl [--only small base evolution table encoder memory count train]
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import header
from rich.console import Console
from rich.table import Table
from torch import Tensor

import nas
from evaluators import scores
from evaluators.costs import params
from evaluators.speed import (
    Race,
    Row,
    count_rows,
    encoder_row,
    free_layers,
    memory_row,
    random_supernet,
    scores_of,
    steps_saved,
    training_row,
)
from search_spaces import Subnet, get_space
from supernet import HubertSupernet, load_supernet
from supernet.audio import load_audio, normalise, read_manifest

PARTS = ("small", "base", "evolution", "table", "encoder", "memory", "count", "train", "sharing")
THEIRS = "s3prl's LightHuBERT"


def speech(audio: Path, seconds: float, each: float = 4.0) -> Tensor:
    """(B, S): the first `each` seconds of as many recordings as `seconds` holds, so that nothing is padded."""
    samples, found = round(16_000 * each), []
    for utterance in read_manifest(audio, "dev"):
        if utterance.seconds >= each:
            found.append(torch.from_numpy(normalise(load_audio(utterance.audio)[:samples])))
        if len(found) == round(seconds / each):
            return torch.stack(found)
    raise SystemExit(f"{audio} has {len(found)} dev recordings of {each:g} s; {seconds:g} s are needed")


def reference_of(kind: str) -> Any:
    """s3prl's model with every weight at random, without dropout."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from s3prl.upstream.lighthubert.lighthubert import LightHuBERT, LightHuBERTConfig

        config = LightHuBERTConfig()
        config.supernet_type, config.extractor_mode = kind, "default"
        for name in vars(type(config)):
            if "drop" in name:
                setattr(config, name, 0.0)
        torch.manual_seed(0)
        return LightHuBERT(config).eval()


@cache
def pair(kind: str) -> tuple[Any, HubertSupernet]:
    """The reference, and its checkpoint as we read it."""
    reference = reference_of(kind)
    cfg = {"_name": "hubert_pruner", "pruner_supernet": f"{kind}.yaml", "extractor_mode": "default"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lighthubert.pt"
        torch.save({"cfg": {"model": cfg}, "model": reference.state_dict()}, file)
        return reference, load_supernet(file)


def reference_score(reference: Any, model: HubertSupernet, wav: Tensor) -> Callable[[Subnet], float]:
    """Sets the subnet and runs it from the waveform; its head's error on the targets of `scores_of`."""
    assert model.calibration is not None
    targets = torch.stack(model.calibration.targets)[:, :, 0]

    @torch.no_grad()
    def score(subnet: Subnet) -> float:
        reference.set_sample_config(subnet.to_lighthubert())
        prediction = reference(wav, mask=False)["layer_heads"][11][0]
        return float((prediction - targets).square().mean())

    return score


def raced(kind: str, wav: Tensor, sample: int) -> Race:
    reference, model = pair(kind)
    fast = scores_of(model, wav)
    race = Race(fast, reference_score(reference, model, wav), sample)
    for score in (*fast.values(), lambda subnets: race.slow(subnets[0])):
        score([model.space.middle])  # warm
    return race


def random_rows(kind: str, goal: str, wav: Tensor, turns: int, n: int = 64) -> Iterator[Row]:
    race = raced(kind, wav, max(1, n // turns // 2))
    rng = np.random.default_rng(0)
    subnets = [get_space(f"lighthubert-{kind}").sample(rng) for _ in range(n)]
    for _ in range(turns):
        race(subnets)
    yield from race.rows(f"score {n} random {kind}-space subnets", THEIRS, goal)


def evolution_rows(wav: Tensor, generations: int = 20, each: int = 32) -> Iterator[Row]:
    race = raced("small", wav, 1)
    space = get_space("lighthubert-small")
    settings = {"searcher": "evolution", "evals": generations * each, "batch": each, "seed": 0}
    nas.search(space, race, costs={"params": params(space)}, budgets=("params<=27M",), **settings)
    yield from race.rows(f"{generations} generations of evolution, {each} each, small space", THEIRS, ">= 8x")


def table_rows(free: int = 4) -> Iterator[Row]:
    """Every subnet of hubert-tiny whose last `free` layers are free, an embed dim a turn."""
    model = load_supernet("hubert-tiny")
    space = free_layers(model.space, free)
    score = scores.distillation(model)
    race = Race({"fp32": score}, lambda subnet: score.one_by_one([subnet])[0], 8)
    subnets = list(space)
    for D in space.embed_dims:
        race([subnet for subnet in subnets if subnet.embed_dim == D])
    work = f"table of a {free}-free-layer sub-space ({len(subnets):,} subnets), hubert-tiny"
    yield from race.rows(work, "our single-subnet path, one by one", ">= 8x")


def encoder_rows(wav: Tensor) -> Iterator[Row]:
    for kind in ("small", "base"):
        _, model = pair(kind)
        row = encoder_row(scores_of(model, wav)["fp32"], model.space.middle)
        yield Row(f"{row.work}, {kind} space", row.against, row.goal, row.ratios, row.note, row.unit)


def use_ours(audio: Path, seconds: float) -> None:
    model, rng = random_supernet("lighthubert-small"), np.random.default_rng(0)  # `pair` would hold the reference too
    scores_of(model, speech(audio, seconds))["fp32"]([model.space.sample(rng) for _ in range(16)])


def use_reference(audio: Path, seconds: float) -> None:
    reference, wav, rng = reference_of("small"), speech(audio, seconds), np.random.default_rng(0)
    with torch.no_grad():
        for _ in range(4):
            reference.set_sample_config(get_space("lighthubert-small").sample(rng).to_lighthubert())
            reference(wav, mask=False)


def memory_rows(audio: Path, seconds: float) -> Iterator[Row]:
    ours, theirs = (partial(use, audio, seconds) for use in (use_ours, use_reference))
    yield memory_row(ours, theirs, THEIRS)


def training_rows(wav: Tensor, turns: int) -> Iterator[Row]:
    for precision in ("fp32", "bf16"):
        reference, model = pair("small")
        scores_of(model, wav)
        assert model.calibration is not None
        targets = torch.stack(model.calibration.targets)[:, :, 0]
        optimiser = torch.optim.AdamW(reference.parameters(), lr=0.0)
        reference.train()

        def step(subnets: Sequence[Subnet]) -> None:
            optimiser.zero_grad()  # noqa: B023
            losses = []
            for subnet in subnets:
                reference.set_sample_config(subnet.to_lighthubert())  # noqa: B023
                prediction = reference(wav, mask=False)["layer_heads"][11][0]  # noqa: B023
                losses.append((prediction.float() - targets).square().mean())  # noqa: B023
            torch.stack(losses).mean().backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)  # noqa: B023
            optimiser.step()  # noqa: B023

        yield training_row(model, wav, "the same with s3prl's modules", step, turns, precision)
        reference.eval()


def sharing_rows() -> Iterator[Row]:
    """How many times fewer half layers are run than one by one, in searches on a made-up score. Counts: no spread."""
    space, batches = get_space("lighthubert-small"), []
    score = scores.synthetic(space)

    class Watched:
        higher_is_better = score.higher_is_better

        def __call__(self, subnets: list[Subnet]) -> list[float]:
            batches.append(subnets)
            return score(subnets)

    for searcher in ("random", "evolution", "exact"):
        for batch in (16, 32, 64):
            batches.clear()
            settings = {"searcher": searcher, "evals": 256, "batch": batch, "seed": 0}
            nas.search(space, Watched(), costs={"params": params(space)}, budgets=("params<=27M",), **settings)
            work = f"half layers shared: {searcher}, 256 evaluations in batches of {batch}"
            yield Row(work, "one by one", "", [steps_saved(space, batches)])
    tiny = get_space("hubert-tiny")
    everything = list(free_layers(tiny, 4))
    yield Row(f"half layers shared: table of {len(everything):,}", "one by one", "", [steps_saved(tiny, [everything])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    wav = speech(given.audio, given.seconds)
    makers: dict[str, Callable[[], Iterator[Row]]] = {
        "small": lambda: random_rows("small", ">= 6x", wav, given.turns),
        "base": lambda: random_rows("base", ">= 3x", wav, given.turns),
        "evolution": lambda: evolution_rows(wav),
        "table": table_rows,
        "encoder": lambda: encoder_rows(wav),
        "memory": lambda: memory_rows(given.audio, given.seconds),
        "count": lambda: iter(count_rows(get_space("lighthubert-small"))),
        "train": lambda: training_rows(wav, max(2, given.turns // 2)),
        "sharing": sharing_rows,
    }
    console = Console(width=200)
    table = Table(title=f"{given.seconds:g} s of speech, {torch.get_num_threads()} threads", title_justify="left")
    for column in ("work", "against", "goal", "median (least – most)", "note"):
        table.add_column(column, overflow="fold")
    for part in given.only:
        for row in makers[part]():
            table.add_row(row.work, row.against, row.goal, row.said, row.note)
            console.print(f"{row.work}: {row.said}; {row.note}")
    if "small" in given.only:
        table.add_row("CUDA", THEIRS, ">= 10x", "—", "no GPU at hand: not measured")
    console.print(table)
    console.print(header())


if __name__ == "__main__":
    main()
