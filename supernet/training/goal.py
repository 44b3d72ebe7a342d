"""What is predicted in training: a teacher's hidden states by heads, or the network's own output as it was.

HeadTargets  the cached, standardised hidden states of a teacher; each is predicted by one of the supernet's heads
OwnOutput    the last hidden state that the largest subnet had before training, for the same batch; and, with a
             decoder, what that makes of it, given the text
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from search_spaces import AudioError, NasError
from supernet.audio import RATE, Utterance, load_audio
from supernet.decoder import TextDecoder
from supernet.layers import Hubert
from supernet.model import WINDOWS, HubertSupernet
from supernet.teacher import TargetCache

__all__ = ["Goal", "HeadTargets", "OwnOutput"]

MAX_WINDOW = 10.0  # seconds of a recording that training hears at once, if the network is its own teacher
_STATISTICS = 60


class HeadTargets:
    """The teacher's targets, standardised by `mean` and `std` (K, dim), and clipped to `clip` deviations."""

    max_seconds = None
    windows = (0.0,)

    def __init__(self, cache: TargetCache, mean: Tensor, std: Tensor) -> None:
        self.cache, self.mean, self.std = cache, mean, std

    @classmethod
    def of(cls, cache: TargetCache, utterances: Sequence[Utterance]) -> HeadTargets:
        """Targets standardised by the statistics of `utterances`, all of which must be in the cache."""
        return cls(cache, *cache.statistics(utterances))

    def seconds(self, recorded: float, window: float) -> float:
        """How long a recording is as it is heard."""
        return recorded


class OwnOutput(nn.Module):
    """The last hidden state of `net`, the network before training, each dim over its standard deviation `std` (D,).

    With `decoder`, texts count too: see `nats`.
    """

    std: Tensor
    max_seconds = MAX_WINDOW
    windows = WINDOWS

    def __init__(self, net: Hubert, std: Tensor, decoder: TextDecoder | None = None) -> None:
        super().__init__()
        self.net, self.decoder = net.eval().requires_grad_(False), decoder
        self.register_buffer("std", std)

    @classmethod
    @torch.no_grad()
    def of(cls, model: HubertSupernet, utterances: Sequence[Utterance], decoded: bool = False) -> OwnOutput:
        """That of the largest subnet of `model`; deviations on evenly spaced utterances. `decoded`: with its decoder.

        Raises `NasError` for a space with several embed dims, whose outputs cannot be compared, and for a decoder that
        is not there; `AudioError` if no utterance has a text for it.
        """
        if decoded and not any(_has_text(utterance) for utterance in utterances):
            raise AudioError(f"no text of a recording of up to {MAX_WINDOW:g} s to train on: kl and ce need some")
        space = model.space
        if space.output_dims != (space.network.width,):
            raise NasError(
                f"a supernet without heads is trained at its network's width; space '{space.name}' has embed dims "
                f"{', '.join(map(str, space.embed_dims))} of {space.network.width}"
            )
        net = model.extract(space.largest).eval()
        first = next(net.parameters())
        states = []
        for i, utterance in enumerate(utterances[:: max(1, len(utterances) // _STATISTICS)]):
            recorded = load_audio(utterance.audio, space.network.receptive_field, MAX_WINDOW)
            wave = model.heard(recorded, WINDOWS[i % len(WINDOWS)])
            states.append(net(wave[None].to(first.device)).last_hidden_state[0])
        std = torch.cat(states).double().std(0).float() + 1e-3
        return cls(net, std, TextDecoder.of(model, str(first.device)) if decoded else None)

    def seconds(self, recorded: float, window: float) -> float:
        """How long a recording is as it is heard in a window of at least so many seconds."""
        return self.net.network.heard_samples(round(min(recorded, MAX_WINDOW) * RATE), window) / RATE

    @torch.no_grad()
    def targets(self, wav: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, 1, D) of wav (B, S)."""
        last: Tensor = self.net(wav, lengths).last_hidden_state
        return (last.float() / self.std).unsqueeze(2)

    def predictions(self, hidden_states: tuple[Tensor, ...]) -> list[Tensor]:
        """The last hidden state (B, T, D) in the same units."""
        return [hidden_states[-1].float() / self.std]

    def tokens(self, utterances: Sequence[Utterance]) -> Tensor | None:
        """(B, L), -1 after the end; of recordings without text, or that are cut, the prompt alone. None: no decoder."""
        if self.decoder is None:
            return None
        rows = []
        for u in utterances:
            own = self.decoder.tokens(u.text or "", u.language)[0]
            rows.append(own if _has_text(u) else own[: self.decoder.prompt_length])
        return pad_sequence(rows, batch_first=True, padding_value=-1)

    def decoded(self, states: Tensor, tokens: Tensor) -> Tensor:
        """The decoder's log probabilities (B, L - P, vocabulary) of tokens (B, L), from states (B, T, D) as above."""
        assert self.decoder is not None
        log_probs: Tensor = self.decoder(states * self.std, tokens)
        return log_probs

    def nats(self, own: Tensor, whole: Tensor, tokens: Tensor) -> Tensor:
        """(2, B): sums over tokens of the divergence of `own` from `whole`, as `decoded` gives them; and of -log p."""
        assert self.decoder is not None
        apart = (whole.exp() * (whole - own)).sum(-1) * self.decoder.counted(tokens).to(own.device)
        return torch.stack([apart, self.decoder.surprise(own, tokens)]).sum(-1)

    def counts(self, tokens: Tensor) -> Tensor:
        """(B,): how many tokens the sums are over."""
        assert self.decoder is not None
        return self.decoder.counted(tokens).sum(1)


def _has_text(utterance: Utterance) -> bool:
    return bool((utterance.text or "").strip()) and utterance.seconds <= MAX_WINDOW


Goal = HeadTargets | OwnOutput
