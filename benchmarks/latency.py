"""How well latency is predicted, whether budgets on it hold, and what forms of one subnet cost.

python -m benchmarks.latency measure --space hubert-tiny --target onnxruntime --out raw/   # once; minutes
python -m benchmarks.latency fit raw/*.json                                                # ours beside others
python -m benchmarks.latency searches --target onnxruntime                                 # 20 budgets, kept or broken
python -m benchmarks.latency forms                                                         # exported, sliced, int8, ...
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks._common import CONSOLE, command_line, header, markdown_table
from evaluators.costs import macs
from evaluators.costs.latency.calibration import LatencyCalibration, calibrate_latency, design
from evaluators.costs.latency.cost import VerifiedLatencyCost
from evaluators.costs.latency.measure import Runners, Timings, measure, onnx_session, polish, rounds_of
from evaluators.costs.latency.model import LatencyModel, SpaceFeatures, accuracy
from evaluators.costs.latency.target import Target, machine
from search_spaces import CheckFailed, Space, Subnet, get_space
from supernet import load_supernet
from supernet.layers import Encoder, EncoderLayer, FrontEnd
from supernet.model import HubertSupernet


def supernet_of(space: str) -> HubertSupernet:
    """The shipped one, or random weights: time does not depend on them."""
    torch.manual_seed(0)
    return load_supernet(space) if space == "hubert-tiny" else HubertSupernet(get_space(space)).eval()


# -------------------------------------------------------------------- measuring


def measured(options: argparse.Namespace) -> None:
    """LatencyCalibration and held-out subnets in one session, and single blocks for the rival that sums them."""
    model, target = supernet_of(options.space), Target.parse(options.target)
    rng = np.random.default_rng(options.seed)
    calibration = design(model.space, options.calibration, rng)
    known = set(calibration)
    draws = (model.space.sample(rng) for _ in range(10 * options.held_out))
    held_out = list(dict.fromkeys(s for s in draws if s not in known))[: options.held_out]
    timings = measure(
        model, [*calibration, *held_out], target, seconds=options.seconds, passes=options.passes, seed=options.seed
    )
    record = {"space": options.space, "calibration": len(calibration), "timings": timings.to_dict()}
    if not options.no_blocks:
        record["blocks"] = blocks_measured(model, target, timings)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{options.space}_{target}.json"
    file.write_text(json.dumps(record) + "\n", encoding="utf-8")
    CONSOLE.print(
        f"{file}: {len(timings.subnets)} subnets, ± {np.median(timings.error):.2%}, drift {timings.drift:.1%}"
    )


def blocks_measured(model: HubertSupernet, target: Target, timings: Timings) -> dict[str, float]:
    """Milliseconds of each block on its own: each front end with each embed dim, each kind of layer."""
    space, network = model.space, model.space.network
    T = network.frames(round(16_000 * target.seconds))
    wav = torch.randn(1, round(16_000 * target.seconds))
    made: dict[str, tuple[nn.Module, torch.Tensor]] = {}
    kinds = sorted({kind for choices in space.choices[: network.num_layers] for kind in choices} - {(0, 0.0)})
    for D in space.embed_dims:
        for channels in space.front_ends:
            made[_front_name(D, channels)] = (_Front(space, D, channels), wav)
        for heads, ratio in kinds:
            layer = _Layer(EncoderLayer(network, D, heads, int(ratio * D)))
            made[f"{D}, {heads}, {ratio:g}"] = (layer, torch.randn(1, T, D))
    reference = Runner(model, target).of(timings.reference)
    runners = [reference, *(Runner(model, target).block(*each) for each in made.values())]
    torch.set_num_threads(target.threads)
    for run in runners:
        run(), run()
    rng = np.random.default_rng(0)
    rows = np.array(list(rounds_of(runners, range(len(runners)), 40, len(runners), rng)))
    level = np.exp(polish(np.log(rows))[1])
    return dict(zip(made, (level[1:] / level[0] * timings.reference_ms).tolist(), strict=True))


def _front_name(D: int, channels: Sequence[int]) -> str:
    return ", ".join(map(str, (D, *channels)))


class _Front(nn.Module):
    """All of a subnet before its layers."""

    def __init__(self, space: Space, D: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.front_end = FrontEnd(space.network, channels)
        self.encoder = Encoder(space.network, Subnet(D, (1,), (1.0,), channels))
        self.encoder.layers = nn.ModuleList()

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        return self.encoder.start(self.front_end(wav))[1]


class _Layer(nn.Module):
    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, None)


class Runner:
    """Calls that run a subnet, or a module, once on the target and give milliseconds."""

    def __init__(self, model: HubertSupernet, target: Target) -> None:
        self.model, self.target = model, target

    def of(self, subnet: Subnet) -> Callable[[], float]:
        return Runners(self.model, self.target)(subnet)

    def block(self, module: nn.Module, x: torch.Tensor) -> Callable[[], float]:
        module = module.eval()
        if self.target.backend == "torch":
            return _timed(lambda: _inferred(module, x))
        program = torch.onnx.export(module, (x,), dynamo=True, verbose=False, input_names=["x"], opset_version=22)
        session = onnx_session(program.model_proto.SerializeToString(), self.target)
        feeds = {"x": x.numpy()}
        return _timed(lambda: session.run(None, feeds))


@torch.inference_mode()
def _inferred(module: nn.Module, x: torch.Tensor) -> Any:
    return module(x)


def _timed(call: Callable[[], Any]) -> Callable[[], float]:
    def once() -> float:
        before = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - before)

    return once


# -------------------------------------------------------------------- predicting


def fitted(options: argparse.Namespace) -> None:
    """Every predictor on the same measurements: fitted on the calibration, judged on the held-out subnets."""
    columns = ("space, target", "predictor", "MAPE", "P95", "tau", "over the bound", "bound")
    table = markdown_table("held-out subnets, exported", *columns)
    for file in options.files:
        record = json.loads(file.read_text(encoding="utf-8"))
        timings, n, space = Timings.from_dict(record["timings"]), record["calibration"], get_space(record["space"])
        n_used = min(n, options.measurements or n)
        shown, held = timings.subnets[:n_used], timings.subnets[n:]
        ms, truth = timings.ms[:n_used], timings.ms[n:]
        model = LatencyModel(SpaceFeatures(space), shown, ms)
        rivals = {
            "FLOPs, linear (ModelOpt)": flops_linear(space, timings.target.seconds, shown, ms, held),
            "MLP on averaged features (HAT)": hat_mlp(space, shown, ms, held),
        }
        if "blocks" in record:
            rivals["sum of measured blocks (OFA, Puzzletron)"] = block_sums(record["blocks"], held)
        name = f"{space.name}, {timings.target}"
        row = accuracy(model.predict(held), truth, model.margin())
        own = [f"{row['mape']:.2%}", f"{row['p95']:.2%}", f"{row['tau']:.3f}", f"{row['over']:.1%} of {len(held)}"]
        table.add_row(name, f"ours, {n_used} measurements", *own, f"+ {model.margin():.2%}")
        for rival, predicted in rivals.items():
            row = accuracy(predicted, truth, 0.0)
            table.add_row("", rival, f"{row['mape']:.2%}", f"{row['p95']:.2%}", f"{row['tau']:.3f}", "", "")
        noise = float(np.median(timings.error))
        low, high = truth.min(), truth.max()
        table.add_row("", f"(held out: {low:.1f} – {high:.1f} ms, each ± {noise:.2%})")
    CONSOLE.print(table)
    CONSOLE.print(header())


def flops_linear(space: Space, seconds: float, shown: Any, ms: Any, held: Any) -> Any:
    """a + b MACs, by least squares on relative errors."""
    table = macs(space, seconds).table
    x, z = (np.array([[1.0, float(table.of(s))] for s in subnets]) for subnets in (shown, held))
    return z @ np.linalg.lstsq(x / ms[:, None], np.ones(len(ms)), rcond=None)[0]


def block_sums(blocks: dict[str, float], held: Sequence[Subnet]) -> Any:
    def total(subnet: Subnet) -> float:
        D, layers = subnet.embed_dim, zip(subnet.heads, subnet.ffn_ratios, strict=True)
        kept = (f"{D}, {heads}, {ratio:g}" for heads, ratio in layers if heads or ratio)
        return blocks[_front_name(D, subnet.front_end)] + sum(blocks[block] for block in kept)

    return np.array([total(subnet) for subnet in held])


def hat_mlp(space: Space, shown: Any, ms: Any, held: Any) -> Any:
    """HAT's predictor: a three-layer perceptron (400 wide) on the averages of what is elastic.

    These are embed dim, depth, mean FFN dim, mean heads and mean channels of the front end.
    """
    torch.manual_seed(0)
    x, z = (
        torch.tensor(
            [
                [s.embed_dim, s.depth, np.mean(s.ffn_dims), np.mean(s.heads), np.mean(s.front_end or (0,))]
                for s in subnets
            ]
        ).float()
        for subnets in (shown, held)
    )
    y = torch.tensor(ms).float()
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    net = nn.Sequential(nn.Linear(5, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2000)
    for _ in range(2000):
        optimizer.zero_grad()
        nn.functional.mse_loss(net((x - mean) / std)[:, 0], y / y.mean()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return (net((z - mean) / std)[:, 0] * y.mean()).numpy()


# -------------------------------------------------------------------- searches


def raw_calibration(file: Path) -> LatencyCalibration:
    """The calibration in what `measure` wrote, of this machine."""
    record = json.loads(file.read_text(encoding="utf-8"))
    timings, n = Timings.from_dict(record["timings"]), record["calibration"]
    shown = replace(timings, subnets=timings.subnets[:n], ms=timings.ms[:n], error=timings.error[:n])
    target = timings.target
    return LatencyCalibration(get_space(record["space"]), shown, machine(target.device), target.versions(), "")


def searched(options: argparse.Namespace) -> None:
    """Searches under budgets from the fastest to the slowest subnet; the winners measured afresh, all in turns."""
    import nas
    from evaluators import scores

    model, target = load_supernet("hubert-tiny"), Target.parse(options.target)
    cost = VerifiedLatencyCost(raw_calibration(options.raw) if options.raw else calibrate_latency(model, target), model)
    target = cost.calibration.target
    low, high = cost.table.range()
    limits = np.linspace(1.01 * low, high, options.searches)[options.first :: options.step]
    score = scores.distillation(model)
    winners: list[Any] = []
    for i, limit in enumerate(limits.round(3).tolist()):
        try:
            budgets = (f"latency_ms<={limit}",)
            winners.append(nas.search(model.space, score, {"latency_ms": cost}, budgets, evals=options.evals, seed=i))
        except CheckFailed as error:
            CONSOLE.print(f"{limit}: {error}")
            winners.append(None)
    found = [(limit, result.best) for limit, result in zip(limits, winners, strict=True) if result]
    held = cost.calibration.timings
    fresh = measure(
        model, [best.subnet for _, best in found], target, held.reference, held.reference_ms, 30.0, 4, True, 99
    )
    columns = ("budget", "predicted", "bound", "at verification", "afresh", "of the budget", "plain median")
    table = markdown_table(f"{len(limits)} searches under latency budgets, {target}", *columns)
    over = beyond = plain_over = 0
    for (limit, _), result, ms, error, raw in zip(
        found, filter(None, winners), fresh.ms, fresh.error, fresh.raw_ms, strict=True
    ):
        candidate = result.verification["candidates"][-1]["budgets"].popitem()[1]
        over, beyond, plain_over = over + (ms > limit), beyond + (ms * (1 - error) > limit), plain_over + (raw > limit)
        cells = (limit, candidate["predicted_ms"], candidate["bound_ms"], candidate["measured_ms"], ms)
        table.add_row(*(f"{cell:.3f}" for cell in cells), f"{ms / limit:.1%}", f"{raw:.3f}")
    CONSOLE.print(table)
    slack = np.mean([1 - ms / limit for (limit, _), ms in zip(found, fresh.ms, strict=True)])
    tries = [len(result.verification["candidates"]) for result in winners if result]
    CONSOLE.print(
        f"{len(found)} of {len(limits)} searches had a winner (candidates measured: {np.mean(tries):.2f} each); "
        f"measured afresh (± {np.median(fresh.error):.2%}) {over} are over their budget, {beyond} "
        f"beyond the confidence; slack {slack:.2%} on average. By plain medians {plain_over} are over: "
        f"the machine was {fresh.slower:+.1%} slower than at calibration."
    )
    CONSOLE.print(header())


# -------------------------------------------------------------------- forms


def formed(options: argparse.Namespace) -> None:
    """One subnet in every form, in turns: sliced from the supernet, extracted, and as ONNX."""
    model = supernet_of(options.space)
    subnet = model.space.middle
    wav = torch.randn(1, round(16_000 * options.seconds))

    @torch.inference_mode()
    def sliced() -> Any:
        with model.active(subnet):
            return model(wav)

    runners: dict[str, Callable[[], float]] = {"sliced supernet, torch": _timed(sliced)}
    for words in ("torch", "torch,dtype=bf16", "onnxruntime", "onnxruntime,dtype=fp16", "onnxruntime,dtype=int8"):
        runners[f"exported, {words}"] = Runner(model, Target.parse(f"{words},seconds={options.seconds}")).of(subnet)
    torch.set_num_threads(1)
    for run in runners.values():
        run(), run()
    rows = np.array(
        list(rounds_of(list(runners.values()), range(len(runners)), 60, len(runners), np.random.default_rng(0)))
    )
    title = f"the middle subnet of {options.space}, {options.seconds:g} s, 1 thread"
    table = markdown_table(title, "form", "ms (median)", "of exported torch", "quartiles")
    for i, name in enumerate(runners):
        ratio = np.quantile(rows[:, i] / rows[:, 1], [0.25, 0.5, 0.75])
        table.add_row(name, f"{np.median(rows[:, i]):.2f}", f"{ratio[1]:.3f}", f"{ratio[0]:.3f} – {ratio[2]:.3f}")
    CONSOLE.print(table)
    CONSOLE.print(header())


def main() -> None:
    parser = command_line(__doc__)
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("measure")
    part.set_defaults(call=measured)
    part.add_argument("--space", default="hubert-tiny")
    part.add_argument("--target", default="torch")
    part.add_argument("--calibration", type=int, default=100)
    part.add_argument("--held-out", type=int, default=50)
    part.add_argument("--seconds", type=float, default=90.0)
    part.add_argument("--passes", type=int, default=3)
    part.add_argument("--seed", type=int, default=1)
    part.add_argument("--no-blocks", action="store_true")
    part.add_argument("--out", type=Path, default=Path("raw"))
    part = parts.add_parser("fit")
    part.set_defaults(call=fitted)
    part.add_argument("files", type=Path, nargs="+")
    part.add_argument("--measurements", type=int)
    part = parts.add_parser("searches")
    part.set_defaults(call=searched)
    part.add_argument("--target", default="torch")
    part.add_argument("--searches", type=int, default=20)
    part.add_argument("--first", type=int, default=0, help="budget to begin with,")
    part.add_argument("--step", type=int, default=1, help="and every which one to take")
    part.add_argument("--evals", type=int, default=24)
    part.add_argument("--raw", type=Path, help="what `measure` wrote, to calibrate on")
    part = parts.add_parser("forms")
    part.set_defaults(call=formed)
    part.add_argument("--space", default="hubert-tiny")
    part.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # torch's exporter tells of what it skips
    warnings.simplefilter("ignore")
    options.call(options)


if __name__ == "__main__":
    main()
