"""An exported subnet trained on a task as a whole: classes, or letters by CTC. Its front end stays frozen.

Everything random comes from (seed, epoch), so that a run killed at any moment and resumed is, on a CPU, the run that
was not killed.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from evaluators.tasks import get_task
from evaluators.tasks.data import Dataset, Example, check_classes, check_text, read_dataset
from evaluators.tasks.fit import Backward
from evaluators.tasks.heads import CtcHead, UtteranceHead
from evaluators.tasks.metrics import accuracy, edit_rates
from evaluators.tasks.transcription import ctc_loss, decode, fits, letters_of
from search_spaces import AudioError, NasError, RunError
from supernet import Hubert, load_extracted, save_extracted
from supernet.audio import batches, load_audio, normalise
from supernet.training.state import load_state, save_state

__all__ = ["FinetuneSettings", "finetune"]


@dataclass(frozen=True)
class FinetuneSettings:
    """`learning_rate` is the encoder's; the new head has ten times as much. Warm-up 10 %, then straight down to 0."""

    steps: int = 1000
    learning_rate: float = 1e-4
    batch_seconds: float = 32.0
    seed: int = 0
    validate_every: int = 100
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        if self.steps < 1 or not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise NasError(
                f"fine-tuning needs at least one step and a learning rate above 0; got {self.steps} and "
                f"{self.learning_rate}"
            )

    def part_at(self, step: int) -> float:
        """What share of the learning rate a step has."""
        warm = max(1, round(0.1 * self.steps))
        return min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm))


class _Tuned(nn.Module):
    """The subnet and its head, on one batch of front-end features."""

    def __init__(self, net: Hubert, head: nn.Module) -> None:
        super().__init__()
        self.net, self.head = net, head
        net.front_end.requires_grad_(False)

    def forward(self, waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits, and frames of each recording. Each is heard alone by the front end, whose norm is over time."""
        with torch.no_grad():
            features = [self.net.front_end(wave[None])[0] for wave in waves]
        lengths = torch.tensor([len(each) for each in features])
        padded = nn.utils.rnn.pad_sequence(features, batch_first=True)
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).to(padded.device)
        states = torch.stack(self.net.encoder(padded, None if bool(mask.all()) else mask), 2)
        if isinstance(self.head, CtcHead):
            return self.head(states, lengths), lengths
        kept = mask[:, :, None, None]
        return self.head((states * kept).sum(1) / kept.sum(1)), lengths


class _Problem:
    """Batches of the train split, their loss, and figures on the other splits."""

    def __init__(self, data: Dataset, outputs: Sequence[str], text: bool, device: str) -> None:
        self.data, self.outputs, self.text, self.device = data, outputs, text, device
        self.train = data.train
        frames = [_seconds(example) * 50 - 1 for example in data.train]
        if text:
            kept = [i for i, e in enumerate(data.train) if fits(e.label, int(frames[i]))]
            self.train, frames = [data.train[i] for i in kept], [frames[i] for i in kept]
        if not self.train:
            raise AudioError("every train text has more letters than its recording has frames (50 a second)")
        self.seconds = [each / 50 for each in frames]

    def steps(self, recipe: FinetuneSettings) -> Iterator[list[int]]:
        for epoch in count():
            yield from batches(self.seconds, recipe.batch_seconds, np.random.default_rng([recipe.seed, epoch]))

    def ids(self, rows: Sequence[int]) -> list[str]:
        return [self.train[row].id for row in rows]

    def loss(self, model: nn.Module, rows: Sequence[int]) -> Tensor:
        return self._loss(model, [self.train[row] for row in rows])

    def _loss(self, model: nn.Module, chosen: Sequence[Example], lenient: bool = False) -> Tensor:
        logits, lengths = model(self._waves(chosen))
        if self.text:
            known = [letters_of(example.label, "".join(self.outputs)) for example in chosen]
            return ctc_loss(logits, lengths, known, lenient)
        labels = torch.tensor([self.outputs.index(example.label) for example in chosen]).to(logits.device)
        return F.cross_entropy(logits, labels)

    @torch.no_grad()
    def dev(self, model: nn.Module) -> float:
        """Minus the mean loss."""
        parts = [(len(chosen), self._loss(model, chosen, lenient=True)) for chosen in _batched(self.data.dev)]
        return -sum(size * float(loss) for size, loss in parts) / len(self.data.dev)

    @torch.no_grad()
    def test(self, model: nn.Module) -> dict[str, Any]:
        said: dict[str, str] = {}
        for chosen in _batched(self.data.test):
            logits, lengths = model(self._waves(chosen))
            for example, row, length in zip(chosen, logits.cpu(), lengths.tolist(), strict=True):
                alphabet = "".join(self.outputs)
                said[example.id] = decode(row[:length], alphabet) if self.text else self.outputs[int(row.argmax())]
        truth, heard = [e.label for e in self.data.test], [said[e.id] for e in self.data.test]
        return edit_rates(truth, [heard]) if self.text else accuracy(np.array([np.equal(truth, heard)]))

    def _waves(self, chosen: Sequence[Example]) -> list[Tensor]:
        return [torch.from_numpy(normalise(load_audio(example.audio))).to(self.device) for example in chosen]


def finetune(
    exported: Path | str,
    task: str,
    manifest: Path | str,
    out: Path,
    recipe: FinetuneSettings | None = None,
    device: str = "cpu",
    skip_missing: bool = False,
    alphabet: str | None = None,
    stop_after: float = math.inf,
    say: Callable[[str], None] = lambda said: None,
) -> dict[str, Any] | None:
    """Trains the subnet in `exported` on `task`, going on from what is in `out`; None where `stop_after` seconds came.

    `out` gets the subnet as `nas export` writes it (with the weights that were best on dev), `head.safetensors`,
    `result.json` with what is reached on test, and while it runs `state.pt` and `log.jsonl`.
    """
    chosen, recipe = get_task(task), recipe or FinetuneSettings()
    if instead := {"verification": "speaker", "diarization": "speaker", "phones": "asr"}.get(task):
        raise NasError(f"fine-tune on {instead} instead of {task}: its subnet can then be evaluated on {task}")
    data = read_dataset(manifest, chosen.label, skip_missing)
    text = chosen.kind == "text"
    if text:
        data, letters = check_text(manifest, data, alphabet)
    outputs = tuple(letters) if text else check_classes(manifest, data, chosen.label)
    problem = _Problem(data, outputs, text, device)
    model = _tuned(load_extracted(exported), len(outputs), text, recipe.seed).to(device)
    settings = {**asdict(recipe), "exported": str(exported), "task": task, "manifest": str(manifest)}
    if not _train(model, problem, recipe, settings, out, stop_after, say):
        return None
    result = {
        "task": task,
        "metric": chosen.metric,
        "results": problem.test(model),
        "data": {"name": data.name, **{part: len(each) for part, each in data.parts.items()}},
        "outputs": list(outputs),
        "settings": settings,
    }
    save_extracted(model.net.cpu(), out, about={"finetuned": settings})
    head = {name: value.cpu().contiguous() for name, value in model.head.state_dict().items()}
    save_file(head, out / "head.safetensors")
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _tuned(net: Hubert, outputs: int, text: bool, seed: int) -> _Tuned:
    layers, dim = net.subnet.depth + 1, net.subnet.embed_dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Tuned(net, CtcHead(layers, dim, outputs) if text else UtteranceHead(layers, dim, outputs))


def _train(
    model: _Tuned,
    problem: _Problem,
    recipe: FinetuneSettings,
    settings: dict[str, Any],
    out: Path,
    stop_after: float,
    say: Callable[[str], None],
) -> bool:
    """Trains until all steps are done and the best weights are in `model`; False where the time was up."""
    out.mkdir(parents=True, exist_ok=True)
    encoder = [value for value in model.net.parameters() if value.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": encoder, "lr": recipe.learning_rate},
        {"params": list(model.head.parameters())},
    ]
    optimiser = torch.optim.AdamW(groups, lr=10 * recipe.learning_rate, weight_decay=0.01)
    step, best, weights = _restore(out, settings, model, optimiser)
    plan, backward, began = problem.steps(recipe), Backward(problem, say), time.monotonic()
    for _ in range(step):
        next(plan)
    while step < recipe.steps:
        model.train()
        for group, rate in zip(optimiser.param_groups, (1, 10), strict=True):
            group["lr"] = rate * recipe.learning_rate * recipe.part_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss = backward(model, next(plan))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        record = {"step": step, "loss": round(loss, 5)}
        if step % recipe.validate_every == 0 or step == recipe.steps:
            score = problem.dev(model.eval())
            record["dev_loss"] = round(-score, 5)
            say(f"step {step}: loss {loss:.3f}, dev loss {-score:.3f}")
            if score > best:
                best, weights = score, copy.deepcopy(model.state_dict())
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        late = time.monotonic() - began > stop_after
        if step % recipe.checkpoint_every == 0 or step == recipe.steps or late:
            _checkpoint(out, settings, model, optimiser, step, best, weights)
        if late and step < recipe.steps:
            return False
    model.load_state_dict(weights)
    model.eval()
    return True


def _checkpoint(
    out: Path,
    settings: dict[str, Any],
    model: _Tuned,
    optimiser: torch.optim.AdamW,
    step: int,
    best: float,
    weights: dict[str, Tensor],
) -> None:
    state = {"settings": settings, "step": step, "best": best, "weights": weights}
    save_state(out, {**state, "model": model.state_dict(), "optimiser": optimiser.state_dict()})


def _restore(
    out: Path, settings: dict[str, Any], model: _Tuned, optimiser: torch.optim.AdamW
) -> tuple[int, float, dict[str, Tensor]]:
    """Step, best figure on dev and its weights: those of the checkpoint in `out`, or the beginning."""
    state = load_state(out, "settings")
    if state is None:
        return 0, -math.inf, copy.deepcopy(model.state_dict())
    begun = state["settings"]
    for key, value in settings.items():
        if begun.get(key) != value and key not in ("validate_every", "checkpoint_every"):
            raise RunError(f"{out} was begun with {key}={begun.get(key)}, now {key}={value}: use another folder")
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    log = (out / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (out / "log.jsonl").write_text("".join(log[: state["step"]]), encoding="utf-8")
    return int(state["step"]), float(state["best"]), state["weights"]


def _batched(examples: Sequence[Example]) -> list[list[Example]]:
    return [[examples[row] for row in rows] for rows in batches([_seconds(e) for e in examples], 64.0)]


def _seconds(example: Example) -> float:
    import soundfile

    try:
        return float(soundfile.info(example.audio).duration)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"cannot read audio {example.audio}: {str(error).rstrip('.')}") from None
