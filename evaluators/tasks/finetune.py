"""An exported subnet trained on a task as a whole: classes, or letters by CTC. Its front end stays frozen.

Everything random comes from (seed, epoch), so that a run killed at any moment and resumed is, on a CPU, the run that
was not killed.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from evaluators.tasks.data import Dataset, Example, check_classes, check_text, read_dataset
from evaluators.tasks.fit import Backward
from evaluators.tasks.heads import CtcHead, UtteranceHead
from evaluators.tasks.metrics import accuracy, edit_rates, tie_broken
from evaluators.tasks.settings import FinetuneSettings
from evaluators.tasks.task import get_task
from evaluators.tasks.transcription import ctc_loss, decode, fits, letters_of, spelling
from search_spaces import AudioError, NasError, RunError
from search_spaces.files import replacing, write_json, write_text
from search_spaces.types import JsonObject
from supernet import Hubert, load_extracted, save_extracted
from supernet.audio import batches, load_audio, seconds_of
from supernet.preprocessor import Preprocessor
from supernet.training.state import fitting, load_state, save_state

__all__ = ["finetune"]


class _Tuned(nn.Module):
    """The subnet and its head, on one batch of front-end features."""

    def __init__(self, net: Hubert, head: nn.Module) -> None:
        super().__init__()
        self.net, self.head = net, head
        net.front_end.requires_grad_(False)

    def forward(self, waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits, and frames of each recording. The front end runs on each alone, since its norm is over time."""
        with torch.no_grad():
            features = [self.net.front_end(wave[None])[0] for wave in waves]
        lengths = torch.tensor([len(each) for each in features])
        padded = nn.utils.rnn.pad_sequence(features, batch_first=True)
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).to(padded.device)
        states = torch.stack(self.net.encoder(padded, None if bool(mask.all()) else mask))
        if isinstance(self.head, CtcHead):
            return self.head(states, lengths), lengths
        kept = mask[:, :, None]
        return self.head((states * kept).sum(2) / kept.sum(1)), lengths


class _Problem:
    """Batches of the train split, their loss, and figures on the other splits."""

    def __init__(self, data: Dataset, outputs: Sequence[str], text: bool, device: str, prepare: Preprocessor) -> None:
        self.data, self.outputs, self.text, self.device = data, outputs, text, device
        self.prepare = prepare
        self.train = data.train
        frames = [_seconds(example) * 50 - 1 for example in data.train]
        if text:
            kept = [i for i, e in enumerate(data.train) if fits(e.label, int(frames[i]))]
            self.train, frames = [data.train[i] for i in kept], [frames[i] for i in kept]
        if not self.train:
            raise AudioError("every train text has more letters than its recording has frames (50 a second)")
        self.seconds = [each / 50 for each in frames]

    def steps(self, settings: FinetuneSettings) -> Iterator[list[int]]:
        for epoch in count():
            yield from batches(self.seconds, settings.batch_seconds, np.random.default_rng([settings.seed, epoch]))

    def ids(self, rows: Sequence[int]) -> list[str]:
        return [self.train[row].id for row in rows]

    def loss(self, model: nn.Module, rows: Sequence[int]) -> Tensor:
        chosen = [self.train[row] for row in rows]
        logits, lengths = model(self._waves(chosen))
        if self.text:
            known = [letters_of(example.label, "".join(self.outputs)) for example in chosen]
            return ctc_loss(logits, lengths, known)
        return F.cross_entropy(logits, self._labels(chosen).to(logits.device))

    def _labels(self, chosen: Sequence[Example]) -> Tensor:
        return torch.tensor([self.outputs.index(example.label) for example in chosen])

    @torch.no_grad()
    def dev(self, model: nn.Module) -> float:
        """Minus the error rate: of letters, or of classes, and of equals the one with the smaller loss."""
        parts = _batched(self.data.dev)
        heard = (model(self._waves(own)) for own in parts)
        if self.text:
            read = ((*each, [e.label for e in own]) for each, own in zip(heard, parts, strict=True))
            return spelling(read, "".join(self.outputs))
        logits = torch.cat([logits.cpu() for logits, _ in heard])
        labels = torch.cat([self._labels(own) for own in parts])
        wrong = float((logits.argmax(1) != labels).double().mean())
        return tie_broken(-wrong, float(F.cross_entropy(logits, labels)))

    @torch.no_grad()
    def test(self, model: nn.Module) -> JsonObject:
        message: dict[str, str] = {}
        for chosen in _batched(self.data.test):
            logits, lengths = model(self._waves(chosen))
            for example, row, length in zip(chosen, logits.cpu(), lengths.tolist(), strict=True):
                alphabet = "".join(self.outputs)
                message[example.id] = decode(row[:length], alphabet) if self.text else self.outputs[int(row.argmax())]
        truth, inputs = [e.label for e in self.data.test], [message[e.id] for e in self.data.test]
        return edit_rates(truth, [inputs]) if self.text else accuracy(np.array([np.equal(truth, inputs)]))

    def _waves(self, chosen: Sequence[Example]) -> list[Tensor]:
        return [torch.from_numpy(self.prepare(load_audio(example.audio))).to(self.device) for example in chosen]


def finetune(
    exported: Path | str,
    task: str,
    manifest: Path | str,
    out: Path,
    settings: FinetuneSettings | None = None,
    device: str = "cpu",
    skip_missing: bool = False,
    alphabet: str | None = None,
    stop_after: float = math.inf,
    log: Callable[[str], None] = lambda message: None,
) -> dict[str, object] | None:
    """Trains the subnet in `exported` on `task`, from what is in `out` on; None if stopped after `stop_after` seconds.

    `out` gets the subnet as `nas export` writes it (with the weights that were best on dev), `head.safetensors`,
    `result.json` with figures on test, and while it runs `state.pt` and `log.jsonl`.
    """
    chosen, settings = get_task(task), settings or FinetuneSettings()
    if chosen.instead is not None:
        raise NasError(f"fine-tune on {chosen.instead} instead of {task}: its subnet can then be evaluated on {task}")
    chosen.check_options(alphabet=alphabet)
    data = read_dataset(manifest, chosen.label, skip_missing)
    text = chosen.kind == "text"
    if text:
        data, letters = check_text(manifest, data, alphabet)
    outputs = tuple(letters) if text else check_classes(manifest, data, chosen.label)
    net = load_extracted(exported)
    problem = _Problem(data, outputs, text, device, net.prepare or Preprocessor())
    model = _tuned(net, len(outputs), text, settings.seed).to(device)
    record = {**asdict(settings), "exported": str(exported), "task": task, "manifest": str(manifest)}
    if not _train(model, problem, settings, _State(out, record, model), stop_after, log):
        return None
    result: dict[str, object] = {
        "task": task,
        "metric": chosen.metric,
        "results": problem.test(model),
        "data": {"name": data.name, **{part: len(each) for part, each in data.parts.items()}},
        "outputs": list(outputs),
        "settings": record,
    }
    save_extracted(model.net.cpu(), out, about={"finetuned": record})
    head = {name: value.cpu().contiguous() for name, value in model.head.state_dict().items()}
    with replacing(out / "head.safetensors") as temporary:
        save_file(head, temporary)
    write_json(out / "result.json", result)
    return result


def _tuned(net: Hubert, outputs: int, text: bool, seed: int) -> _Tuned:
    layers, dim = net.subnet.depth + 1, net.encoder.dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Tuned(net, CtcHead(layers, dim, outputs) if text else UtteranceHead(layers, dim, outputs))


def _train(
    model: _Tuned,
    problem: _Problem,
    settings: FinetuneSettings,
    state: _State,
    stop_after: float,
    log: Callable[[str], None],
) -> bool:
    """Trains until all steps are done and the best weights are in `model`; False if the time was up before."""
    encoder = [value for value in model.net.parameters() if value.requires_grad]
    groups: list[JsonObject] = [
        {"params": encoder, "lr": settings.learning_rate},
        {"params": list(model.head.parameters())},
    ]
    optimiser = torch.optim.AdamW(groups, lr=10 * settings.learning_rate, weight_decay=0.01)
    step = state.restore(model, optimiser)
    plan, backward, began = problem.steps(settings), Backward(problem, log), time.monotonic()
    for _ in range(step):
        next(plan)
    while step < settings.steps:
        model.train()
        for group, rate in zip(optimiser.param_groups, (1, 10), strict=True):
            group["lr"] = rate * settings.learning_rate * settings.part_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss = backward(model, next(plan))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        record = {"step": step, "loss": round(loss, 5)}
        if step % settings.validate_every == 0 or step == settings.steps:
            score = problem.dev(model.eval())
            record["dev_error"] = round(-score, 5)
            log(f"step {step}: loss {loss:.3f}, error rate on dev {-score:.3f}")
            state.offer(score, model)
        state.append_log(record)
        late = time.monotonic() - began > stop_after
        if step % settings.checkpoint_every == 0 or step == settings.steps or late:
            state.save(model, optimiser, step)
        if late and step < settings.steps:
            return False
    model.load_state_dict(state.weights)
    model.eval()
    return True


class _State:
    """The state that a run keeps in its folder: the best weights on dev so far, checkpoints, and a log."""

    def __init__(self, out: Path, settings: Mapping[str, object], model: _Tuned) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.settings = out, dict(settings)
        self.best, self.weights = -math.inf, copy.deepcopy(model.state_dict())

    def offer(self, score: float, model: _Tuned) -> None:
        """Keeps the model's weights if their figure on dev is the best."""
        if score > self.best:
            self.best, self.weights = score, copy.deepcopy(model.state_dict())

    def append_log(self, record: Mapping[str, float]) -> None:
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")

    def save(self, model: _Tuned, optimiser: torch.optim.AdamW, step: int) -> None:
        state = {"settings": self.settings, "step": step, "best": self.best, "weights": self.weights}
        save_state(self.out, {**state, "model": model.state_dict(), "optimiser": optimiser.state_dict()})

    def restore(self, model: _Tuned, optimiser: torch.optim.AdamW) -> int:
        """The step to resume from: that of the checkpoint in the folder, or 0."""
        state = load_state(self.out, "settings")
        if state is None:
            return 0
        before = state["settings"]
        for key, value in self.settings.items():
            if before.get(key) != value and key not in ("validate_every", "checkpoint_every"):
                raise RunError(
                    f"{self.out} was started with {key}={before.get(key)}, now {key}={value}: use another folder"
                )
        with fitting(self.out):
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            self.best, self.weights = float(state["best"]), state["weights"]
            if set(self.weights) != set(model.state_dict()):
                raise ValueError("its best weights are of another model")
        file = self.out / "log.jsonl"
        log = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        write_text(file, "".join(log[: state["step"]]))
        return int(state["step"])


def _batched(examples: Sequence[Example]) -> list[list[Example]]:
    return [[examples[row] for row in rows] for rows in batches([_seconds(e) for e in examples], 64.0)]


def _seconds(example: Example) -> float:
    return seconds_of(example.audio)
