"""`nas compress`: a pretrained model in, smaller ones that serve out; every stage is a command of its own."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.common import command_line, note_of_precision, require_device
from nas.commands.compress_report import show, summed_up
from nas.commands.console import TrainingProgress, counting, err, out
from nas.commands.convert import space_of
from nas.commands.options import verb
from nas.commands.search import run_search
from nas.commands.specialise import finalists_of
from nas.progress import SearchProgress
from nas.settings import SearchSettings, parse_budget
from search_spaces import Budget, NasError, Subnet
from search_spaces.files import new_folder, read_text, write_json
from search_spaces.settings import Settings, option
from search_spaces.types import JsonObject
from supernet.training.recipe import DATA, OPTIMISATION, WHERE, SpecialiseSettings, TrainSettings

if TYPE_CHECKING:
    from supernet import HubertSupernet

__all__ = ["CompressSettings", "app"]

app = typer.Typer(add_completion=False)
_SEARCH, _RESULT = "Search", "Result"
_RATES, _SWEEP_STEPS = (3e-5, 6e-5, 1.2e-4), 40
_TOGETHER = 0.5  # of the time for training: for all subnets together, if they are trained
_DECODER_TEACHES = 0.5  # weight of its divergence, where the search goes by the decoder
_PASSES_A_STEP = {"train": 8.0, "specialise": 6.0}  # in forward passes of the original: backward passes are two more
_HELD_OUT = 20  # candidates that are scored once more, at most
_SEARCH_SECONDS = {True: 300.0, False: 30.0}  # of forward passes an evaluation takes, if the decoder scores and if not
_SECONDS_A_RECORDING = 45.0  # of forward passes a transcription takes


@dataclass(frozen=True)
class CompressSettings(Settings):
    """What `nas compress` takes beside the model and the folder."""

    audio: Path = option(
        help="Manifest of speech with the splits train, dev and test; with texts, a Whisper is evaluated.",
        group=DATA,
        path=True,
    )
    teacher: Path | None = option(
        None,
        "For a supernet with prediction heads: the Hugging Face folder of the teacher that they predict. A model "
        "without heads is its own teacher.",
        group=DATA,
        path=True,
    )
    budgets: tuple[Budget, ...] = option(
        (), "Hard limit, such as 'params<=50%'; repeatable: one model each.", flag="--budget", parse=parse_budget
    )
    minutes: float | None = option(None, "About how long all of it may take; default: as the steps need.", minimum=1)
    space: str | None = option(
        None, "TOML file of a space, or coarse, fine or uniform; default: fine.", group=_SEARCH, path=True
    )
    train_steps: int = option(
        0,
        "Training steps of all subnets together, before the search; default: none, for they serve the chosen ones "
        "less than the same time for each alone.",
        group=OPTIMISATION,
        minimum=0,
    )
    learning_rate: float | None = option(
        None,
        f"Peak learning rate. Default: {SpecialiseSettings.learning_rate:g} for one subnet alone; for all together the "
        f"best of {', '.join(map('{:g}'.format, _RATES))} in a short sweep, or the middle one for less than "
        f"{5 * _SWEEP_STEPS} steps.",
        group=OPTIMISATION,
        minimum=0,
    )
    specialise_steps: int = option(
        600, "Training steps of each finalist alone; 0: none.", group=OPTIMISATION, minimum=0
    )
    finalists: int = option(1, "Subnets of each budget that are trained alone.", group=OPTIMISATION, minimum=1)
    batch_seconds: float = option(20.0, "Seconds of speech in a batch.", group=OPTIMISATION, minimum=1)
    score: str | None = option(
        None, "What the search minimises; default: kl for a whole Whisper with texts, else distillation.", group=_SEARCH
    )
    evals: int = option(64, "Evaluations of each search.", group=_SEARCH, minimum=1)
    formats: str = option("json,safetensors,hf", "Comma-separated formats of the exports.", group=_RESULT)
    target: str | None = option(
        None, "Where latency is measured, such as onnxruntime,threads=1,seconds=10; default: not.", group=_RESULT
    )
    recordings: int = option(
        300, "Recordings of the split test that each model transcribes, evenly spaced.", group=_RESULT, minimum=1
    )
    precision: str = option("fp32", "Precision of training: fp32, bf16 or fp16.", group=WHERE)
    device: str = option("cpu", "cpu or cuda.", group=WHERE)
    seed: int = option(0, "Seed of training and search.", group=WHERE, minimum=0)


@verb(
    app,
    example="nas compress openai/whisper-base --budget 'params<=50%' --audio speech/manifest.jsonl --out small/",
    config=True,
)
def compress(
    model: Annotated[str, typer.Argument(help="Hugging Face folder or org/name on the Hub, or a supernet.")],
    out_: Annotated[Path, typer.Option("--out", help="Folder to write; run the same command again to continue.")],
    settings: CompressSettings,
) -> None:
    """Convert, train, search, specialise, export, measure and evaluate: a smaller model within each budget."""
    require_device(settings.device)
    if not settings.budgets:
        raise NasError("compress needs a budget, such as --budget 'params<=50%'")
    work = _Work(model, out_, settings)
    try:
        record = work.done()
    except KeyboardInterrupt:
        err.print(f"interrupted; run the same command again to continue ({out_})", soft_wrap=True)
        raise typer.Exit(130) from None
    show(record)
    out.print(f"results: {out_ / 'results.json'}", soft_wrap=True)


class _Work:
    """The stages of one compression, each of which is skipped if its result is there."""

    def __init__(self, source: str, folder: Path, settings: CompressSettings) -> None:
        self.source, self.folder, self.settings = source, folder, settings
        self.converted, self.trained = folder / "converted", folder / "train" / "supernet"
        self._began = time.monotonic()
        self._check_folder()

    def _check_folder(self) -> None:
        """Refuses a folder of another compression."""
        own = json.loads(json.dumps({"model": self.source, **self.settings.to_dict()}))
        file = self.folder / "compress.json"
        if file.exists():
            before = json.loads(read_text(file))
            changed = [key for key in own if before.get(key) != own[key]]
            if changed:
                raise NasError(
                    f"{self.folder} was started with {changed[0]}={before.get(changed[0])}, now "
                    f"{own[changed[0]]}: use another folder, or the earlier value"
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise NasError(f"{self.folder} is not empty, and no folder of nas compress")
        write_json(file, own)

    def done(self) -> JsonObject:
        """All stages; the record of their results."""
        self._convert()
        plan = self._plan()
        self._train(plan["train_steps"])
        results = []
        for budget in self.settings.budgets:
            place = self.folder / _slug(budget)
            self._search(budget, plan["score"], place / "search")
            self._specialise(place, plan["specialise_steps"], plan["score"])
            self._export(place)
            results.append(self._results(budget, place))
        record = {"model": self.source, "command": command_line(), "budgets": results}
        write_json(self.folder / "results.json", record)
        return record

    @property
    def supernet(self) -> Path:
        return self.trained if self.trained.exists() else self.converted

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        err.print(f"[{(time.monotonic() - self._began) / 60:.1f} min] {name}", soft_wrap=True, markup=False)
        yield

    # ---------------------------------------------------------------- stages

    def _convert(self) -> None:
        if self.converted.exists():
            return
        from supernet.order import convert

        with self._stage("convert: heads and FFN units in order of importance"), new_folder(self.converted) as written:
            convert(self.source, written, space_of(self.source, self.settings.space), self.settings.audio)

    def _plan(self) -> JsonObject:
        """How many steps there is time for, and whether the settings fit the model; decided once."""
        from supernet import load_supernet

        file, settings = self.folder / "plan.json", self.settings
        if file.exists():
            plan: JsonObject = json.loads(read_text(file))
            return plan
        model = load_supernet(self.converted)
        if model.head_layers and settings.teacher is None:
            raise NasError(f"{self.source} has prediction heads: name the teacher that they predict (--teacher)")
        if settings.teacher is not None and not model.head_layers:
            raise NasError(f"--teacher has no effect: {self.source} has no prediction heads, and is its own teacher")
        score = self._score(model)
        _check_budgets(model, settings.budgets)
        _note_languages(settings.audio)
        pass_ = _seconds_a_pass(model, settings.batch_seconds)
        steps = self._steps(pass_, score in ("kl", "ce"), model.source is not None)
        plan = {
            "train_steps": steps["train"],
            "specialise_steps": steps["specialise"],
            "batch_seconds": settings.batch_seconds,
            "seconds_a_pass": pass_,
            "score": score,
        }
        write_json(file, plan)
        return plan

    def _steps(self, pass_: float, decoder_scores: bool, transcribed: bool) -> dict[str, int]:
        """The steps of each training that there is time for; says how long what will take."""
        settings = self.settings
        steps = {"train": settings.train_steps, "specialise": settings.specialise_steps}
        times = {"train": 1, "specialise": len(settings.budgets) * settings.finalists}
        seconds = {name: _PASSES_A_STEP[name] * pass_ * times[name] for name in steps}
        searches, tests = self._other_seconds(pass_, decoder_scores, transcribed)
        if settings.minutes is not None:
            left = 60 * settings.minutes - (time.monotonic() - self._began) - searches - tests
            together = _TOGETHER if steps["train"] else 0.0
            share = {"train": together, "specialise": 1 - together}
            steps = {name: min(count, max(0, int(share[name] * left / seconds[name]))) for name, count in steps.items()}
            if left <= 0:
                err.print(
                    "no time is left for training: take more --minutes, or fewer --evals or --recordings",
                    soft_wrap=True,
                )
        training = sum(steps[name] * seconds[name] for name in steps)
        err.print(
            f"{steps['train']} steps of the supernet and {steps['specialise']} of each finalist alone: about "
            f"{training / 60:.0f} min of training, {searches / 60:.0f} of searches, {tests / 60:.0f} of evaluation",
            soft_wrap=True,
        )
        return steps

    def _other_seconds(self, pass_: float, decoder_scores: bool, transcribed: bool) -> tuple[float, float]:
        """About how long the searches and the evaluations take, by the time of a pass over a batch."""
        settings, batches = self.settings, pass_ / self.settings.batch_seconds
        searches = len(settings.budgets) * (settings.evals + _HELD_OUT) * _SEARCH_SECONDS[decoder_scores] * batches
        rows = 1 + 3 * len(settings.budgets)
        return searches, rows * settings.recordings * _SECONDS_A_RECORDING * batches if transcribed else 0.0

    def _train(self, steps: int) -> None:
        if self.trained.exists() or not steps:
            return
        from nas.commands.train import run_training

        settings, rate = self.settings, self.settings.learning_rate
        swept = rate is None and steps >= 5 * _SWEEP_STEPS  # else it would take longer than it is worth
        recipe = TrainSettings(
            settings.audio,
            self.folder / "train",
            teacher=settings.teacher,
            init=str(self.converted),
            stage2_steps=steps,
            rates=_RATES if swept else (),
            sweep_steps=_SWEEP_STEPS,
            stage2_learning_rate=rate or _RATES[1],
            budgets=tuple(b for b in settings.budgets if b.cost in ("params", "macs")),
            batch_seconds=settings.batch_seconds,
            precision=settings.precision,
            device=settings.device,
            seed=settings.seed,
        )
        with self._stage("train: all subnets together, the original is the teacher"):
            self._halving(lambda batch: run_training(replace(recipe, batch_seconds=batch).to_dict()))

    def _score(self, model: HubertSupernet) -> str:
        """The score to search by; raises `NasError` for one that the model or the speech does not allow."""
        from evaluators.scores.mixed import parse_score
        from supernet.audio import read_manifest
        from supernet.decoder import TextDecoder

        texts = any(utterance.text for utterance in read_manifest(self.settings.audio))
        score = self.settings.score or ("kl" if model.source is not None and texts else "distillation")
        parse_score(score)
        if score in ("kl", "ce"):
            TextDecoder.of(model)
            if not texts:
                raise NasError(f"the score {score} needs texts: {self.settings.audio} has none")
        return score

    def _search(self, budget: Budget, score: str, folder: Path) -> None:
        if (folder / "best.json").exists():
            return
        settings = self.settings
        search = SearchSettings(
            supernet=str(self.supernet),
            budgets=(budget,),
            score=score,
            audio=str(settings.audio),
            teacher=None if settings.teacher is None else str(settings.teacher),
            evals=settings.evals,
            seed=settings.seed,
            holdout=True,
            device=settings.device,
        )
        search = SearchSettings.from_dict(search.to_dict())
        with self._stage(f"search: {budget}"), SearchProgress(settings.evals, err) as progress:
            run_search(search, folder, (folder / "run.json").exists(), progress)

    def _specialise(self, place: Path, steps: int, score: str) -> None:
        if (place / "specialised" / "specialised.json").exists() or not steps:
            return
        from supernet.training.specialise import specialise

        settings = self.settings
        name, subnets = finalists_of(place / "search", settings.finalists)
        alone = SpecialiseSettings(
            settings.audio,
            teacher=settings.teacher or self.converted,
            steps=steps,
            learning_rate=settings.learning_rate or SpecialiseSettings.learning_rate,
            batch_seconds=settings.batch_seconds,
            kl=_DECODER_TEACHES if score in ("kl", "ce") else 0.0,
            precision=settings.precision,
            device=settings.device,
            seed=settings.seed,
        )

        def train(batch: float) -> object:
            with TrainingProgress(note_of_precision(settings.device, settings.precision)) as progress:
                return specialise(name, subnets, place / "specialised", replace(alone, batch_seconds=batch), progress)

        with self._stage(f"specialise: {', '.join(subnet.id for subnet in subnets)}"):
            self._halving(train)

    def _halving(self, train: Callable[[float], object]) -> None:
        """Runs a training; if memory does not suffice, goes on with half of the batch, and says so.

        The plan keeps the batch: a run that is killed need not find it again.
        """
        from evaluators.tasks.fit import out_of_memory

        file = self.folder / "plan.json"
        while True:
            plan = json.loads(read_text(file))
            try:
                train(plan["batch_seconds"])
                return
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or plan["batch_seconds"] < 2:
                    raise
            write_json(file, {**plan, "batch_seconds": plan["batch_seconds"] / 2})
            err.print(f"out of memory: again with batches of {plan['batch_seconds'] / 2:g} s", soft_wrap=True)

    def _chosen(self, place: Path) -> tuple[Path, Subnet]:
        """The supernet and the subnet that are shipped."""
        special = place / "specialised" / "specialised.json"
        if special.exists():
            return place / "specialised" / "supernet", Subnet.from_dict(json.loads(read_text(special))["subnet"])
        return self.supernet, finalists_of(place / "search", 1)[1][0]

    def _export(self, place: Path) -> None:
        if (place / "exported").exists():
            return
        from evaluators.costs import params
        from supernet import load_supernet
        from supernet.export import export_subnet

        supernet, subnet = self._chosen(place)
        model = load_supernet(supernet)
        about = {"command": command_line(), "name": Path(self.source).name, "supernet": model.provenance}
        about["costs"] = {"params": params(model).of(subnet)}
        formats = [part.strip() for part in self.settings.formats.split(",") if part.strip()]
        with self._stage("export, and compare with the slice"):
            export_subnet(model, subnet, place / "exported", formats, about)

    def _results(self, budget: Budget, place: Path) -> JsonObject:
        file = place / "results.json"
        if file.exists():
            record: JsonObject = json.loads(read_text(file))
            return record
        supernet, subnet = self._chosen(place)
        with self._stage("measure and evaluate"), counting("recordings") as progress:
            record = summed_up(
                budget,
                place,
                self.converted,
                self.supernet,
                (supernet, subnet),
                self.settings.audio,
                self.settings.target,
                self.settings.device,
                progress,
                self.settings.recordings,
            )
        write_json(file, record)
        return record


def _slug(budget: Budget) -> str:
    """A budget as the name of a folder."""
    text = str(budget).replace("<=", "-").replace("%", "pct")
    return re.sub(r"[^A-Za-z0-9.=,-]+", "_", text)


def _check_budgets(model: HubertSupernet, budgets: tuple[Budget, ...]) -> None:
    """Raises `InfeasibleError` for a budget on params or MACs that no subnet keeps, before anything is trained."""
    from evaluators.costs import macs, params
    from supernet.training.recipe import budgeted_subnets

    known = tuple(budget for budget in budgets if budget.cost in ("params", "macs"))
    budgeted_subnets(model.space, known, {"params": params(model), "macs": macs(model.space)})


def _note_languages(audio: Path) -> None:
    from supernet.audio import read_manifest

    languages = {utterance.language for utterance in read_manifest(audio) if utterance.language}
    if len(languages) == 1:
        err.print(
            f"note: all speech is in the language {languages.pop()}: what the model does in others is neither kept nor "
            "measured",
            soft_wrap=True,
        )


def _seconds_a_pass(model: HubertSupernet, batch_seconds: float) -> float:
    """Seconds of one forward pass of the original over a batch of speech."""
    import torch

    samples = min(80_000, model.space.network.max_samples or 80_000)
    wav = 0.1 * torch.randn(max(1, round(16_000 * batch_seconds / samples)), samples)
    times = []
    with torch.no_grad():
        for _ in range(3):
            began = time.monotonic()
            model(wav)
            times.append(time.monotonic() - began)
    return min(times)
