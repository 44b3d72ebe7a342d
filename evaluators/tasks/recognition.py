"""Speech recognition by a whole model (Whisper): a subnet as encoder, its source's decoder, nothing trained.

Greedy `generate` of transformers, in windows of at least 15 s, and 5 s longer than the recording if the model hears so
much: in shorter ones greedy decoding repeats itself (docs/log.md). Texts are compared in lower case without
punctuation, by transformers' basic normaliser.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from evaluators.tasks.metrics import edits, paired, pooled_rate
from search_spaces import AudioError, CheckpointError, NasError, Subnet
from search_spaces.files import read_text, write_json
from search_spaces.types import JsonObject
from supernet import HubertSupernet, load_supernet
from supernet.audio import RATE, Utterance, load_audio, read_manifest
from supernet.decoder import TextDecoder
from supernet.export.hugging_face import load_whole, whole_model
from supernet.layers import fingerprint

__all__ = ["Recogniser", "compared", "kept_recognition", "recognition"]

WINDOW, LONGEST, SILENCE = 15.0, 30.0, 5.0
_BATCH_SECONDS = {"cpu": 120.0, "cuda": 1920.0}
_TOKENS_A_SECOND = 10
SHORT = 4.0
RATES = ("wer", "cer")


@dataclass(frozen=True)
class Heard:
    """What a model makes of one recording: the text, and the cross-entropy of the true one over its tokens."""

    text: str
    nats: float
    tokens: int


class Recogniser:
    """A whole model in memory: waveforms in, texts out."""

    def __init__(self, net: Any, decoder: TextDecoder, device: str, name: str) -> None:
        self.net, self.decoder, self.device, self.name = net.to(device).eval(), decoder.to(device), device, name
        encoder = net.model.encoder.net
        self.longest = min(LONGEST, net.config.max_source_positions / 50)
        params = sum(value.numel() for value in encoder.parameters())
        subnet = encoder.subnet
        self.about: JsonObject = {
            "model": name,
            "weights": fingerprint(encoder),
            "encoder_params": params,
            "heads": list(subnet.heads),
            "ffn_dims": list(subnet.ffn_dims),
        }
        decoder.complete(net.generation_config)

    @classmethod
    def of(
        cls,
        name: Path | str,
        subnet: Subnet | None = None,
        device: str = "cpu",
        check: Callable[[HubertSupernet], None] = lambda model: None,
    ) -> Recogniser:
        """The model in an exported or Hugging Face folder, or of a supernet and its subnet (default: the largest)."""
        folder = Path(name) / "hf" if (Path(name) / "hf" / "config.json").is_file() else Path(name)
        if _is_subnet(folder):
            if subnet is not None:
                raise NasError(f"{name} is one exported subnet, not a supernet: leave --subnet out")
            return cls(load_whole(folder), TextDecoder.in_folder(folder), device, str(name))
        model = load_supernet(folder)
        check(model)
        decoder = TextDecoder.of(model)  # says what is missing
        return cls(whole_model(model, subnet or model.space.largest), decoder, device, str(name))

    @torch.no_grad()
    def __call__(
        self, waves: Sequence[Tensor], texts: Sequence[str], language: str | None, window: float
    ) -> list[Heard]:
        """Of recordings (S,) in one language, each alone in a window of so many seconds."""
        samples = round(window * RATE)
        wav = torch.stack([F.pad(wave, (0, samples - len(wave))) for wave in waves]).to(self.device)
        mel = self.net.model.encoder.net.front_end.mel(wav)
        output = self.net.model.encoder(mel)
        options = {"language": language or "en", "task": "transcribe"} if self.decoder.multilingual else {}
        positions = self.decoder.positions - len(self.decoder.prompt(language)) - 1
        most = min(positions, round(_TOKENS_A_SECOND * window))
        with _quiet():
            tokens = self.net.generate(
                input_features=mel, encoder_outputs=output, max_new_tokens=most, do_sample=False, num_beams=1, **options
            )
        own = pad_sequence([self.decoder.tokens(text, language)[0] for text in texts], True, -1)
        nats = self.decoder.surprise(self.decoder(output[0], own), own).double().sum(1).tolist()
        counts = self.decoder.counted(own).sum(1).tolist()
        return [Heard(*each) for each in zip(self.decoder.texts(tokens), nats, counts, strict=True)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' remarks on its own defaults."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _is_subnet(folder: Path) -> bool:
    """Whether a folder is our export of a Whisper whose layers differ."""
    try:
        config = json.loads(read_text(folder / "config.json"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "whisper" and "subnet" in config


def recognition(
    recogniser: Recogniser,
    manifest: Path,
    split: str | None = "test",
    window: float = WINDOW,
    progress: Callable[[int, int], None] = lambda done, total: None,
    recordings: int | None = None,
) -> JsonObject:
    """Error rates and cross-entropy on the manifest's texts, whole and by language and length; plain, for JSON.

    `recordings`: at most so many, evenly spaced in the manifest; default: all. `utterances` holds what was heard of
    each, so that two models can be compared (`compared`).
    Raises `AudioError` without texts, and for recordings longer than the model hears (30 s).
    """
    began, window = time.monotonic(), min(window, recogniser.longest)
    utterances = _spaced(_with_texts(manifest, split, recogniser.longest), recordings)
    heard: dict[str, Heard] = {}
    for batch in _batches(utterances, window, _BATCH_SECONDS[torch.device(recogniser.device).type]):
        waves = [torch.from_numpy(load_audio(utterance.audio, max_seconds=LONGEST)) for utterance in batch]
        longest = min(recogniser.longest, max(window, *(utterance.seconds + SILENCE for utterance in batch)))
        texts = [utterance.text or "" for utterance in batch]
        for utterance, each in zip(batch, recogniser(waves, texts, batch[0].language, longest), strict=True):
            heard[utterance.id] = each
        progress(len(heard), len(utterances))
    rows = [_row(utterance, heard[utterance.id]) for utterance in utterances]
    return {
        "task": "transcription",
        "results": _figures(rows),
        "groups": {group: _figures(own) for group, own in sorted(_grouped(rows).items())},
        "model": recogniser.about,
        "data": {"path": str(manifest), "split": split, "recordings": len(rows), "window": window},
        "seconds": round(time.monotonic() - began, 1),
        "intervals": "95 %, bootstrap over recordings",
        "utterances": rows,
    }


def kept_recognition(
    file: Path,
    name: Path | str,
    subnet: Subnet,
    manifest: Path,
    split: str = "test",
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
    recordings: int | None = None,
) -> JsonObject:
    """The result in `file`; computed and written first, if it is not there yet."""
    if not file.exists():
        recogniser = Recogniser.of(name, subnet, device)
        result = recognition(recogniser, manifest, split, progress=progress, recordings=recordings)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, result)
    kept: JsonObject = json.loads(read_text(file))
    return kept


def _with_texts(manifest: Path, split: str | None, longest: float) -> list[Utterance]:
    utterances = [u for u in read_manifest(manifest, split) if u.text is not None and u.text.strip()]
    if not utterances:
        raise AudioError(f'{manifest} has no texts to compare with: its lines need "text"')
    for utterance in utterances:
        if utterance.seconds > longest:
            raise AudioError(f"'{utterance.id}' has {utterance.seconds:.0f} s, the model hears {longest:g}: split it")
    return utterances


def _spaced(utterances: list[Utterance], most: int | None) -> list[Utterance]:
    if most is None or len(utterances) <= most:
        return utterances
    return [utterances[i * len(utterances) // most] for i in range(most)]


def _batches(utterances: Sequence[Utterance], window: float, most: float) -> Iterator[list[Utterance]]:
    """Recordings of one language and similar length, at most so many seconds with the silence."""
    ordered = sorted(utterances, key=lambda u: (u.language or "", u.seconds))
    batch: list[Utterance] = []
    for utterance in ordered:
        long = (len(batch) + 1) * max(window, utterance.seconds + SILENCE) > most
        if batch and (long or utterance.language != batch[0].language):
            yield batch
            batch = []
        batch.append(utterance)
    yield batch


def _row(utterance: Utterance, heard: Heard) -> JsonObject:
    truth, guess = _plain(utterance.text or ""), _plain(heard.text)
    counts = edits(truth, guess)
    return {
        "id": utterance.id,
        "language": utterance.language,
        "seconds": round(utterance.seconds, 2),
        "text": utterance.text,
        "heard": heard.text,
        **{f"{rate}_edits": counts[rate][0] for rate in RATES},
        **{f"{rate}_length": counts[rate][1] for rate in RATES},
        "nats": round(heard.nats, 4),
        "tokens": heard.tokens,
    }


def _plain(text: str) -> str:
    """A text as it is compared."""
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    plain: str = BasicTextNormalizer()(text)
    return plain.strip()


def _grouped(rows: Sequence[JsonObject]) -> dict[str, list[JsonObject]]:
    groups: dict[str, list[JsonObject]] = {}
    for row in rows:
        length = f"up to {SHORT:g} s" if row["seconds"] <= SHORT else f"over {SHORT:g} s"
        groups.setdefault(", ".join(filter(None, (row["language"], length))), []).append(row)
    return groups if len(groups) > 1 else {}


_SUMS: Mapping[str, tuple[str, str]] = {
    **{rate: (f"{rate}_edits", f"{rate}_length") for rate in RATES},
    "ce": ("nats", "tokens"),
}


def _columns(rows: Sequence[JsonObject], name: str) -> tuple[Any, Any]:
    above, below = _SUMS[name]
    return np.array([row[above] for row in rows], dtype=float), np.array([row[below] for row in rows], dtype=float)


def _figures(rows: Sequence[JsonObject]) -> JsonObject:
    return {**{name: pooled_rate(*_columns(rows, name)) for name in _SUMS}, "recordings": len(rows)}


def compared(record: JsonObject, other: JsonObject) -> JsonObject:
    """How much higher the rates of `record` are than those of `other`, with paired intervals over recordings.

    Raises `CheckpointError` if they are not of the same recordings.
    """
    rows, theirs = record["utterances"], {row["id"]: row for row in other.get("utterances", ())}
    if [row["id"] for row in rows] != list(theirs):
        raise CheckpointError("the two results are not of the same recordings: evaluate both on one manifest and split")

    def difference(own: Sequence[JsonObject]) -> JsonObject:
        pairs = [theirs[row["id"]] for row in own]
        return {name: paired(*_columns(own, name), *_columns(pairs, name)) for name in _SUMS}

    groups = {group: difference(own) for group, own in sorted(_grouped(rows).items())}
    return {"with": other["model"], "results": difference(rows), "groups": groups}
