"""How well the decoder of a whole model (Whisper) is served by a subnet in place of its encoder, given the text.

ce  cross-entropy of the text's tokens, in nats a token, each predicted after the true ones
kl  divergence of the predicted distributions from those with the whole encoder, in nats a token
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from evaluators.scores.context import MAX_RECORDING_SECONDS, MIN_TO_HOLD_OUT, ScoreContext, require_whole
from search_spaces import AudioError, NasError, Subnet
from supernet.audio import Utterance, load_audio, read_manifest
from supernet.decoder import TextDecoder
from supernet.model import HubertSupernet
from supernet.shared import SharedEncoder, Speech

__all__ = ["DecodingScore", "make_ce", "make_kl"]

Kind = Literal["ce", "kl"]
_BATCH = 16  # utterances that the decoder reads at once


class DecodingScore:
    """Cross-entropy ("ce") or divergence ("kl") a token of the model's own decoder, given the text; lower is better.

    On about `seconds` of evenly spaced utterances of `audio` that have a text, of the split dev if the manifest has
    one. For `held_out` as many are set apart; where the speech is too little, one in four. Raises `NasError` without a
    decoder, and `AudioError` without texts.
    """

    higher_is_better = False
    held_out: DecodingScore | None = None

    def __init__(
        self, model: HubertSupernet, kind: Kind, audio: Path | str | None, device: str = "cpu", seconds: float = 240.0
    ) -> None:
        decoder = TextDecoder.of(model, device)
        if audio is None:
            raise NasError(f"the score {kind} needs speech with texts (--audio manifest.jsonl)")
        chosen = _texts(Path(audio), 2 * seconds)
        enough = sum(min(u.seconds, MAX_RECORDING_SECONDS) for u in chosen) > 1.9 * seconds
        apart = chosen[1::2] if enough else chosen[3::4]
        if len(chosen) >= MIN_TO_HOLD_OUT:
            self.held_out = DecodingScore.__new__(DecodingScore)
            self.held_out._use(model, kind, decoder, apart, device, f"{len(apart)} utterances set apart")
            chosen = [utterance for utterance in chosen if utterance not in apart]
        self._use(model, kind, decoder, chosen, device, str(audio))

    def _use(
        self,
        model: HubertSupernet,
        kind: Kind,
        decoder: TextDecoder,
        utterances: Sequence[Utterance],
        device: str,
        source: str,
    ) -> None:
        self.name, self.source, self._decoder, self.model = kind, source, decoder, model.to(device).eval()
        least = model.space.network.receptive_field
        read = [(load_audio(u.audio, least, MAX_RECORDING_SECONDS), u) for u in utterances]
        read.sort(key=lambda pair: len(pair[0]))
        self._tokens = [decoder.tokens(u.text or "", u.language)[0] for _, u in read]
        samples = hashlib.sha256(b"".join(hashlib.sha256(wave.tobytes()).digest() for wave, _ in read)).hexdigest()
        with torch.no_grad():
            waves = [model.heard(wave)[None].to(device) for wave, _ in read]
            each = [model.features_of_each(wave) for wave in waves]
        self._features = {end: [own[end][0] for own in each] for end in model.space.front_ends}
        self.settings: dict[str, object] = {
            "speech": source,
            "seconds": round(sum(len(wave) for wave, _ in read) / 16_000, 1),
            "samples": samples[:12],
            "weights": model.fingerprint(),
        }
        self.to(device)

    def to(self, device: str) -> DecodingScore:
        """Itself, scoring on another device from now on."""
        self.model.to(device)
        self._decoder.to(device)
        self._speech = {end: Speech(own, device) for end, own in self._features.items()}
        self._encoder = SharedEncoder(self.model, self._speech)
        self._whole: list[Tensor] | None = None
        if self.held_out is not None:
            self.held_out.to(device)
        return self

    def __call__(self, subnets: Sequence[Subnet]) -> list[float]:
        """Nats a token for each subnet. Shared layers are computed once, in any order of the subnets."""
        tokens = self.tokens.sum()
        return [float(row.sum() / tokens) for row in self.nats(subnets)]

    @property
    def tokens(self) -> Tensor:
        """(U,): how many tokens of each utterance count."""
        return torch.tensor([self._count(row) for row in range(len(self._tokens))])

    def nats(self, subnets: Sequence[Subnet]) -> Tensor:
        """(subnets, U): sums over the tokens of each utterance, shortest first, in float64."""
        if self.name == "kl" and self._whole is None:
            ((self._whole,),) = self._read([self.model.space.largest], self._predictions)
        return torch.stack([values for (values,) in self._read(subnets, self._of)])

    def _read(self, subnets: Sequence[Subnet], read):  # type: ignore[no-untyped-def]
        layers = [self.model.space.network.num_layers]
        return self._encoder.read(subnets, layers, lambda _, hidden: read(hidden))

    def _predictions(self, hidden: Tensor) -> list[Tensor]:
        """Log probabilities (L, vocabulary) for each utterance, from the states (N, D) of all."""
        states = torch.split(hidden, next(iter(self._speech.values())).lengths)
        predicted: list[Tensor] = []
        for _, alike in groupby(range(len(states)), key=lambda row: len(states[row])):
            rows = list(alike)
            for batch in (rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)):
                tokens = pad_sequence([self._tokens[row] for row in batch], batch_first=True)
                log_probs = self._decoder(torch.stack([states[row] for row in batch]), tokens)
                predicted += [own[: self._count(row)] for own, row in zip(log_probs, batch, strict=True)]
        return predicted

    def _count(self, row: int) -> int:
        """How many tokens of an utterance count."""
        return len(self._tokens[row]) - self._decoder.prompt_length

    def _of(self, hidden: Tensor) -> Tensor:
        values = []
        for i, log_probs in enumerate(self._predictions(hidden)):
            if self._whole is None:
                nats = self._decoder.surprise(log_probs[None], self._tokens[i][None])
            else:
                nats = (self._whole[i].exp() * (self._whole[i] - log_probs)).sum(1)
            values.append(nats.double().sum())
        return torch.stack(values).cpu()


def _texts(audio: Path, seconds: float) -> list[Utterance]:
    """Evenly spaced utterances with a text, about `seconds` of them."""
    everything = [u for u in read_manifest(audio) if u.text and u.text.strip()]
    if not everything:
        raise AudioError(f'{audio} has no texts: ce and kl need "text" in its lines; the score distillation needs none')
    dev = [u for u in everything if u.split == "dev"] or everything
    every = max(1.0, sum(min(u.seconds, MAX_RECORDING_SECONDS) for u in dev) / seconds)
    return [dev[int(i * every)] for i in range(int(len(dev) / every)) if int(i * every) < len(dev)]


def make_ce(context: ScoreContext, argument: str | None) -> DecodingScore:
    """`ce`"""
    return _make("ce", context, argument)


def make_kl(context: ScoreContext, argument: str | None) -> DecodingScore:
    """`kl`"""
    return _make("kl", context, argument)


def _make(kind: Kind, context: ScoreContext, argument: str | None) -> DecodingScore:
    require_whole(context, kind)
    if argument is not None:
        raise NasError(f"the score {kind} takes no argument; got '{kind}:{argument}'")
    return DecodingScore(context.model, kind, context.audio, context.device)
