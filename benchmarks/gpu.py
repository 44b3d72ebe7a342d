"""Checks of everything that runs on CUDA, in under 9 minutes, as one table.

    make gpu                                          # skipped without a GPU
    python -m benchmarks.gpu --audio speech/manifest.jsonl
    python -m benchmarks.gpu --device cpu --only parity shared bf16 step training --steps 4

parity     last hidden states of a padded batch, float32, against transformers' on the same GPU
shared     the shared scoring path against each subnet's own slice on the GPU, and on the CPU
bf16       the order of 64 subnets of `hubert-tiny` by teacher distance in bfloat16
graphs     the CUDA graph that latency is measured with, against eager calls
latency    a search under a latency budget on `torch,device=cuda`, then 16 subnets that it was not calibrated on
scoring    64 subnets of `lighthubert-small` on 64 s of speech, against s3prl's LightHuBERT in fp16 autocast
step       one training step, float32, against the CPU
lengths    training steps in bf16 on speech of another length each, against float32
training   200 steps of both stages in bf16; the teacher is `hubert-tiny` itself, read from its Hugging Face export

Without --audio the speech is artificial: harmonics with formants. Exit status 1 if a check fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from benchmarks import families, speed
from benchmarks._common import CONSOLE, command_line, header, markdown_table
from evaluators import scores
from evaluators.costs.latency.calibration import LatencyCalibration, latency_calibration_file
from evaluators.costs.latency.measure import Runners, measure
from evaluators.costs.latency.target import Target
from nas.trust import kendall_tau
from supernet import HubertSupernet, load_supernet
from supernet.shared import SharedEncoder, Speech
from supernet.training.batches import Batch
from supernet.training.recipe import StageRecipe
from supernet.training.step import optimiser_of, train_step

TARGETS = {"cuda": "torch,device=cuda,seconds=10,batch=8,dtype=fp16", "cpu": "torch,threads=1,seconds=2"}
RATE = 16_000


@dataclass(frozen=True)
class Check:
    """One line of the table; `passed` is None if it could not be run."""

    what: str
    result: str
    limit: str
    passed: bool | None


@dataclass(frozen=True)
class Setting:
    device: str
    steps: int
    folder: Path
    audio: Path

    @property
    def target(self) -> Target:
        return Target.parse(TARGETS["cuda" if self.device.startswith("cuda") else "cpu"])

    def speech(self, seconds: float) -> Tensor:
        return speed.speech(self.audio, seconds, 2.0)


# -------------------------------------------------------------------- the checks


def parity(here: Setting) -> Iterator[Check]:
    for name in ("hubert", "wavlm", "whisper"):
        folder = here.folder / name
        theirs = families.source(name, folder).to(here.device)
        model = load_supernet(folder).to(here.device)
        difference = families.parity(theirs, model, here.speech(4.0).to(here.device))
        yield at_most(f"parity: {name} against transformers, relative", difference, 1e-4)


@torch.no_grad()
def shared(here: Setting) -> Iterator[Check]:
    outputs = {}
    for device in dict.fromkeys(("cpu", here.device)):
        model, rng = load_supernet("hubert-tiny", device=device), np.random.default_rng(0)
        subnets = [model.space.sample(rng) for _ in range(16)]
        waves = here.speech(16.0).to(device)
        plain = []
        for subnet in subnets:
            with model.active(subnet):
                plain.append(torch.cat([model(wave[None]).last_hidden_state[0] for wave in waves]).cpu())
        fronts = {subnet.front_end for subnet in subnets}
        features = {front_end: [model.features(wave[None], front_end)[0] for wave in waves] for front_end in fronts}
        last = [model.space.network.num_layers]
        own: list[Tensor] = []
        for subnet in subnets:
            speech = {subnet.front_end: Speech(features[subnet.front_end], device)}
            encoder = SharedEncoder(model, speech)
            own += [states[0].cpu() for states in encoder.read([subnet], last, lambda _, hidden: hidden.clone())]
        outputs[device] = plain
        yield at_most(f"shared path against slices, {device}", apart(own, plain), 1e-4)
    yield at_most("slices on the GPU against the CPU", apart(outputs[here.device], outputs["cpu"]), 1e-3)


def bf16(here: Setting) -> Iterator[Check]:
    model, rng = load_supernet("hubert-tiny", device=here.device), np.random.default_rng(0)
    subnets = [model.space.sample(rng) for _ in range(64)]
    values, seconds = {}, {}
    for precision in ("fp32", "bf16"):
        score = scores.distillation(model, device=here.device, precision=precision)
        score(subnets[:8])
        before = time.perf_counter()
        values[precision] = np.array(score(subnets))
        seconds[precision] = time.perf_counter() - before
    tau = kendall_tau(values["bf16"], values["fp32"], rng)["tau"]
    text = f"{tau:.3f} ({seconds['fp32'] / seconds['bf16']:.1f}x as fast)"
    yield Check("bf16: Kendall's tau with float32, 64 subnets", text, ">= 0.98", bool(tau >= 0.98))


def graphs(here: Setting) -> Iterator[Check]:
    model, target = load_supernet("hubert-tiny"), here.target
    run = Runners(model, target)(model.space.middle)
    net = model.extract(model.space.middle).eval().to(here.device, torch.float16)
    wav = torch.randn(target.batch, round(target.seconds * RATE), device=here.device, dtype=torch.float16)
    replayed, eager = [], []
    with torch.inference_mode():
        for _ in range(30):
            replayed.append(run())
            torch.cuda.synchronize()
            before = time.perf_counter()
            net(wav)
            torch.cuda.synchronize()
            eager.append(1e3 * (time.perf_counter() - before))
    ours, theirs = float(np.median(replayed[5:])), float(np.median(eager[5:]))
    text = f"{ours:.2f} ms, {theirs:.2f} ms"
    yield Check("CUDA graph against eager, middle subnet", text, "no slower", ours <= theirs)


def latency(here: Setting) -> Iterator[Check]:
    model, target = load_supernet("hubert-tiny"), here.target
    limit = float(measure(model, [model.space.middle], target, seconds=3.0, passes=1).ms[0])
    out, budget = here.folder / "latency", f"latency_ms<={limit:.3f}@{target}"
    nas_command("search", "--supernet", "hubert-tiny", "--evals", 64, "--seed", 0, "--budget", budget, "--out", out)
    best = json.loads((out / "best.json").read_text(encoding="utf-8"))
    (check,) = best["measured"].values()
    text = f"{check['measured_ms']:.3f} ms, predicted {check['predicted_ms']:.3f}"
    yield Check(f"search under latency_ms<={limit:.3f}, measured again", text, "within the budget", check["keeps"])
    calibration = LatencyCalibration.load(latency_calibration_file(model.space, target))
    rng = np.random.default_rng(1)
    subnets = [model.space.sample(rng) for _ in range(16)]
    timings = measure(model, subnets, target, calibration.timings.reference, calibration.timings.reference_ms, 20.0)
    table = calibration.model.table()
    errors = np.array([table.of(subnet) for subnet in subnets]) / timings.ms - 1
    over = int((errors < -calibration.model.margin()).sum())
    yield at_most(f"latency of 16 other subnets: MAPE ({over} over their bound)", float(np.abs(errors).mean()), 0.03)


def scoring(here: Setting) -> Iterator[Check]:
    if find_spec("s3prl") is None:
        yield Check("scoring against s3prl's LightHuBERT", "s3prl is not installed", ">= 10x", None)
        return
    for row in speed.cuda_rows(here.speech(64.0), 4, here.device):
        passed = None if not row.ratios else bool(np.median(row.ratios) >= 10)
        yield Check(f"{row.work} against {row.against}", f"{row.summary}; {row.note}", row.goal, passed)


def step(here: Setting) -> Iterator[Check]:
    losses, weights = {}, {}
    for device in dict.fromkeys(("cpu", here.device)):
        model = load_supernet("hubert-tiny", device=device).train()
        batch = with_targets(model, here.speech(8.0))
        recipe = StageRecipe(stage=2, steps=10, precision="fp32", learning_rate=1e-3)
        losses[device] = train_step(model, recipe, optimiser_of(model, recipe), 5, batch, device)["loss"]
        weights[device] = [value.detach().cpu() for value in model.parameters()]
    ours, expected = float(losses[here.device]), float(losses["cpu"])  # type: ignore[arg-type]
    yield at_most("a training step: loss against the CPU, relative", abs(ours / expected - 1), 1e-3)
    # AdamW's first step moves each weight by the learning rate in the direction of its gradient's sign
    same = [(a - b).abs() < 1e-4 for a, b in zip(weights[here.device], weights["cpu"], strict=True)]
    share = float(torch.cat([each.flatten() for each in same]).float().mean())
    yield Check("a training step: weights that moved alike", f"{share:.2%}", ">= 99 %", share >= 0.99)


def lengths(here: Setting) -> Iterator[Check]:
    seconds, wav = {}, here.speech(64.0)
    for precision in ("fp32", "bf16"):
        model = load_supernet("hubert-tiny", device=here.device).train()
        recipe = StageRecipe(stage=2, steps=10, precision=precision, learning_rate=1e-4, mask_prob=0.0)
        optimiser, took = optimiser_of(model, recipe), []
        for i in range(7):
            batch = with_targets(model, wav[:, : wav.shape[1] - 960 * i])
            took.append(float(train_step(model, recipe, optimiser, i, batch, here.device)["seconds"]))  # type: ignore[arg-type]
        seconds[precision] = float(np.median(took[1:]))
    ratio = seconds["bf16"] / seconds["fp32"]
    text = f"{ratio:.1f} times as long ({seconds['bf16']:.2f} s, {seconds['fp32']:.2f} s)"
    yield Check("training steps in bf16, another length in each, against float32", text, "<= 3 times", ratio <= 3)


def training(here: Setting) -> Iterator[Check]:
    teacher, out, device = here.folder / "teacher", here.folder / "trained", here.device
    largest = here.folder / "largest.json"
    largest.write_text(load_supernet("hubert-tiny").space.largest.to_json(), encoding="utf-8")
    nas_command("export", largest, "--supernet", "hubert-tiny", "--format", "hf", "--out", teacher)
    before, half = time.perf_counter(), here.steps // 2
    options = ("--stage1-steps", half, "--stage2-steps", here.steps - half, "--device", device)
    precision = ("--precision", "fp32" if device == "cpu" else "bf16")
    nas_command("train", "--teacher", teacher / "hf", "--audio", here.audio, "--out", out, *options, *precision)
    seconds = time.perf_counter() - before
    log = [
        json.loads(line)
        for stage in ("stage1", "stage2")
        for line in (out / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    steps, warm = [record for record in log if "loss" in record], min(5, half)
    took, heard = (sum(record[key] for record in steps[warm:]) for key in ("seconds", "audio_seconds"))
    rates = f"{(len(steps) - warm) / took:.1f} steps/s, {heard / took:.0f} s of speech/s"
    text = f"{len(steps)} steps in {seconds:.0f} s with start and targets; {rates}"
    yield Check(f"training, {precision[1]}, both stages", text, f"{here.steps} steps", len(steps) == here.steps)
    dev = [float(np.mean(record["dev"]["largest"])) for record in log if "dev" in record]
    yield Check("training: dev distance of the largest subnet", f"{dev[-1]:.3f}", "< 1", dev[-1] < 1)


CHECKS: dict[str, Callable[[Setting], Iterator[Check]]] = {
    "parity": parity, "shared": shared, "bf16": bf16, "graphs": graphs, "latency": latency, "scoring": scoring,
    "step": step, "lengths": lengths, "training": training,
}  # fmt: skip


# -------------------------------------------------------------------- what they use


def with_targets(model: HubertSupernet, wav: Tensor) -> Batch:
    """Recordings (B, S), the last one padded from half of its length on, with random targets."""
    frames, generator = model.space.network.frames(wav.shape[1]), torch.Generator().manual_seed(0)
    targets = torch.randn(len(wav), frames, len(model.head_layers), model.head_dim, generator=generator)
    lengths = torch.tensor([wav.shape[1]] * (len(wav) - 1) + [wav.shape[1] // 2])
    return Batch(wav, lengths, tuple(str(i) for i in range(len(wav))), targets)


def at_most(what: str, value: float, limit: float) -> Check:
    return Check(what, f"{value:.1e}", f"<= {limit:g}", value <= limit)


def apart(ours: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, expected, strict=True))


def nas_command(*words: object) -> None:
    """A command of this project. Raises `RuntimeError` with its last line if it fails."""
    command = [sys.executable, "-m", "cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(f"nas {words[0]} ended with {done.returncode}: {lines[-1] if lines else ''}")


def artificial_speech(folder: Path, count: int = 160, seconds: float = 2.5) -> Path:
    """A manifest of `count` recordings: syllables of harmonics under two formants, and noise."""
    rng, lines = np.random.default_rng(0), []
    for i in range(count):
        wave = 0.003 * rng.standard_normal(round(seconds * RATE))
        for start in np.arange(0, seconds - 0.25, 0.25):
            pitch, formants = rng.uniform(90, 240), rng.uniform([300, 900], [800, 2500])
            times = np.arange(round(rng.uniform(0.08, 0.22) * RATE)) / RATE
            syllable = np.zeros(len(times))
            for k in range(1, int(4000 / pitch)):
                gain = sum(1 / (1 + ((k * pitch - formant) / 120) ** 2) for formant in formants)
                syllable += gain * np.sin(2 * np.pi * k * pitch * times)
            begin = round(start * RATE)
            wave[begin : begin + len(times)] += 0.1 * syllable * np.hanning(len(times))
        name = f"{i:03}.flac"
        soundfile.write(folder / name, (wave / np.abs(wave).max() * 0.5).astype(np.float32), RATE)
        split = "dev" if i % 4 == 0 else "train"
        lines.append(json.dumps({"id": str(i), "audio": name, "seconds": seconds, "split": split}) + "\n")
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(lines), encoding="utf-8")
    return manifest


def rows_of(name: str, here: Setting) -> list[Check]:
    """The lines of one check; a failure of any kind is one of them, so that the others still run."""
    try:
        return list(CHECKS[name](here))
    except Exception as error:  # every kind is a failed check
        return [Check(name, f"{type(error).__name__}: {error}".splitlines()[0], "runs", False)]


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--audio", type=Path, help="Manifest of speech.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=200, help="Steps of training.")
    parser.add_argument("--only", nargs="+", choices=list(CHECKS), default=list(CHECKS))
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no GPU on this machine: skipped")
        return
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    torch.backends.cudnn.allow_tf32 = False  # which is what float32 is compared with
    failed, started = 0, time.perf_counter()
    table = markdown_table(f"{name}, torch {torch.__version__}", "check", "result", "limit", "", "s")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        here = Setting(options.device, options.steps, folder, options.audio or artificial_speech(folder))
        for each in options.only:
            before = time.perf_counter()
            for check in rows_of(each, here):
                word = {True: "ok", False: "FAILED", None: "not run"}[check.passed]
                failed += check.passed is False
                taken, before = time.perf_counter() - before, time.perf_counter()
                table.add_row(check.what, check.result, check.limit, word, f"{taken:.0f}")
                print(f"{word}: {check.what}: {check.result} ({check.limit})", flush=True)
    CONSOLE.print(table)
    print(f"{time.perf_counter() - started:.0f} s in all; {header()}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
