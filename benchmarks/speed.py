"""Speed of scoring, counting and training, compared with s3prl's LightHuBERT on the same speech, subnets and weights.

python -m benchmarks.speed --audio speech/manifest.jsonl [--only small base evolution table encoder memory count
    train sharing successive processes cuda]
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import nas
from benchmarks._common import CONSOLE, command_line, header, markdown_table
from evaluators import scores
from evaluators.costs import macs, params
from evaluators.scores.successive import SuccessiveScore
from nas.commands.speed_rows import (
    Race,
    Row,
    count_rows,
    encoder_row,
    free_layers,
    memory_row,
    precisions,
    random_supernet,
    scores_of,
    steps_saved,
    training_row,
)
from search_spaces import Subnet, get_space
from supernet import HubertSupernet, load_supernet
from supernet.audio import load_audio, read_manifest
from supernet.preprocessor import Preprocessor

PARTS = (
    "small", "base", "evolution", "table", "encoder", "memory", "count", "train", "sharing", "successive", "processes",
    "cuda",
)  # fmt: skip
THEIRS = "s3prl's LightHuBERT"


def speech(audio: Path, seconds: float, each: float = 4.0) -> Tensor:
    """(B, S): the first `each` seconds of as many recordings as `seconds` holds, so that nothing is padded."""
    samples, waves = round(16_000 * each), []
    for utterance in read_manifest(audio, "dev"):
        if utterance.seconds >= each:
            waves.append(torch.from_numpy(Preprocessor()(load_audio(utterance.audio)[:samples])))
        if len(waves) == round(seconds / each):
            return torch.stack(waves)
    raise SystemExit(f"{audio} has {len(waves)} dev recordings of {each:g} s or more; {seconds:g} s are needed")


def reference_of(kind: str) -> Any:
    """s3prl's model with random weights, without dropout."""
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
    """The reference, and our supernet loaded from its checkpoint."""
    reference = reference_of(kind)
    cfg = {"_name": "hubert_pruner", "pruner_supernet": f"{kind}.yaml", "extractor_mode": "default"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lighthubert.pt"
        torch.save({"cfg": {"model": cfg}, "model": reference.state_dict()}, file)
        return reference, load_supernet(file)


def reference_score(reference: Any, model: HubertSupernet, wav: Tensor) -> Callable[[Subnet], float]:
    """Runs a subnet from the waveform; the error of its head on the targets of `scores_of`."""
    assert model.calibration is not None
    targets = torch.stack(model.calibration.targets)[:, :, 0].to(wav.device)

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
    """Every subnet of hubert-tiny that differs in the last `free` layers only, one embed dim per turn."""
    model = load_supernet("hubert-tiny")
    space = free_layers(model.space, free)
    score = scores.distillation(model)
    race = Race({"fp32": score}, lambda subnet: score.one_by_one([subnet])[0], 8)
    subnets = list(space)
    for D in space.embed_dims:
        race([subnet for subnet in subnets if subnet.embed_dim == D])
    work = f"table of a {free}-free-layer sub-space ({len(subnets):,} subnets), hubert-tiny"
    yield from race.rows(work, "our path for single subnets, one by one", ">= 8x")


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
    for precision in precisions(wav.device):
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
    """How many times fewer half layers run than one by one, in searches with a synthetic score (counts: no spread)."""
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


def successive_rows(seeds: int = 5, evals: int = 96) -> Iterator[Row]:
    """Searches of hubert-tiny with and without `--successive`, alternating."""
    model = load_supernet("hubert-tiny")
    whole, successive = scores.distillation(model), SuccessiveScore(model)
    for score in (whole, successive):
        score([model.space.middle])  # warm
    costs = {"params": params(model.space)}
    for searcher in ("exact", "evolution"):
        for limit in ("2M", "3.5M"):
            ratios, lost, ruled_out = [], [], 0
            for seed in range(seeds):
                settings = {"searcher": searcher, "evals": evals, "seed": seed, "budgets": (f"params<={limit}",)}
                spent, best = {}, {}
                for score in (whole, successive):
                    result = nas.search(model.space, score, costs=costs, **settings)
                    spent[score] = sum(e.seconds for e in result.evaluations) / len(result.evaluations)
                    best[score] = result.best.score if result.best else np.nan
                    ruled_out += sum(e.status == "ruled out" for e in result.evaluations)
                ratios.append(spent[whole] / spent[successive])
                lost.append(best[successive] - best[whole])
            note = (
                f"{100 * ruled_out / seeds / evals:.0f} % ruled out; best score off by {np.mean(lost):+.5f} "
                f"({min(lost):+.5f} – {max(lost):+.5f})"
            )
            yield Row(f"successive evaluation: {searcher}, params<={limit}", "all of the speech", "", ratios, note)


def _score_share(threads: int, chosen: list[str], barrier: Any, seconds: Any) -> None:
    """One process of `processes_rows`: loads, warms up, waits for the others, scores its share."""
    torch.set_num_threads(threads)
    model = load_supernet("hubert-tiny")
    score = scores.distillation(model)
    score([model.space.middle])
    subnets = [Subnet.from_json(text) for text in chosen]
    barrier.wait()
    before = time.perf_counter()
    score(subnets)
    seconds.put(time.perf_counter() - before)


def processes_rows(turns: int, n: int = 32) -> Iterator[Row]:
    """One process with all cores against one per core with its share of the subnets; new processes every turn."""
    space, rng, context = get_space("hubert-tiny"), np.random.default_rng(0), get_context("spawn")
    cores, ratios, notes = torch.get_num_threads(), [], []
    for _ in range(turns):
        chosen = [space.sample(rng).to_json() for _ in range(n)]
        took = []
        for count in (1, cores):
            barrier, seconds = context.Barrier(count), context.Queue()
            shares = [chosen[i::count] for i in range(count)]
            workers = [
                context.Process(target=_score_share, args=(cores // count, share, barrier, seconds)) for share in shares
            ]
            for worker in workers:
                worker.start()
            took.append(max(seconds.get() for _ in workers))
            for worker in workers:
                worker.join()
        ratios.append(took[0] / took[1])
        notes.append([1e3 * each / n for each in took])
    one, many = np.median(notes, axis=0)
    work = f"{n} random subnets of hubert-tiny, {cores} processes of one thread"
    yield Row(work, f"one process of {cores} threads", "", ratios, f"{one:.0f} -> {many:.0f} ms a subnet")


def cuda_rows(wav: Tensor, turns: int, device: str = "cuda", n: int = 64) -> Iterator[Row]:
    """64 subnets of the small space on 64 s of speech, the reference in fp16 autocast on the same GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        yield Row(f"score {n} random small-space subnets, CUDA", THEIRS, ">= 10x", [], "not measured: no GPU")
        return
    reference, model = (each.to(device) for each in pair("small"))
    wav = wav.to(device)
    fast = {name: score.to(device) for name, score in scores_of(model, wav).items()}
    plain = reference_score(reference, model, wav)
    half = torch.float16 if device == "cuda" else torch.bfloat16

    def slow(subnet: Subnet) -> float:
        with torch.autocast(device, dtype=half):
            return plain(subnet)

    race, rng = Race(fast, slow, max(1, n // turns)), np.random.default_rng(0)
    subnets = [model.space.sample(rng) for _ in range(n)]
    for _ in range(turns + 1):
        race(subnets)
    for name in race.ratios:
        del race.ratios[name][0]  # cold
    seconds = {name: np.median(race.seconds[name]) for name in race.ratios}
    flops = 2 * float(np.mean([macs(model.space, seconds=64.0).of(subnet) for subnet in subnets]))
    for row, name in zip(
        race.rows(f"score {n} random small-space subnets, {device}", f"{THEIRS}, autocast", ">= 10x"), race.ratios
    ):
        rate = f"{1e-12 * flops / seconds[name]:.1f} TFLOP/s by whole forward passes"
        yield Row(row.work, row.against, row.goal, row.ratios, f"{row.note}; {rate}")


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    wav = speech(args.audio, args.seconds)
    makers: dict[str, Callable[[], Iterator[Row]]] = {
        "small": lambda: random_rows("small", ">= 6x", wav, args.turns),
        "base": lambda: random_rows("base", ">= 3x", wav, args.turns),
        "evolution": lambda: evolution_rows(wav),
        "table": table_rows,
        "encoder": lambda: encoder_rows(wav),
        "memory": lambda: memory_rows(args.audio, args.seconds),
        "count": lambda: iter(count_rows(get_space("lighthubert-small"))),
        "train": lambda: training_rows(wav, max(2, args.turns // 2)),
        "sharing": sharing_rows,
        "successive": successive_rows,
        "processes": lambda: processes_rows(args.turns),
        "cuda": lambda: cuda_rows(speech(args.audio, 64.0), args.turns),
    }
    title = f"{args.seconds:g} s of speech, {torch.get_num_threads()} threads"
    table = markdown_table(title, "work", "against", "goal", "median (least – most)", "note")
    for part in args.only:
        for row in makers[part]():
            table.add_row(row.work, row.against, row.goal, row.summary, row.note)
            CONSOLE.print(f"{row.work}: {row.summary}; {row.note}")
    CONSOLE.print(table)
    CONSOLE.print(header())


if __name__ == "__main__":
    main()
