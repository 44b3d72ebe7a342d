"""What is predicted in training: a teacher's hidden states by heads, or the network's own output as it was.

HeadTargets  the cached, standardised hidden states of a teacher; each is predicted by one of the supernet's heads
OwnOutput    the last hidden state that the largest subnet had before training, for the same batch
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from search_spaces import NasError
from supernet.audio import Utterance, load_audio
from supernet.layers import Hubert
from supernet.model import HubertSupernet
from supernet.teacher import TargetCache

__all__ = ["Goal", "HeadTargets", "OwnOutput"]

MAX_WINDOW = 10.0  # seconds of a recording that training hears at once, if the network is its own teacher
_STATISTICS = 60


class HeadTargets:
    """The teacher's targets, standardised by `mean` and `std` (K, dim), and clipped to `clip` deviations."""

    max_seconds = None

    def __init__(self, cache: TargetCache, mean: Tensor, std: Tensor) -> None:
        self.cache, self.mean, self.std = cache, mean, std

    @classmethod
    def of(cls, cache: TargetCache, utterances: Sequence[Utterance]) -> HeadTargets:
        """Targets standardised by the statistics of `utterances`, all of which must be in the cache."""
        return cls(cache, *cache.statistics(utterances))


class OwnOutput(nn.Module):
    """The last hidden state of `net`, the network before training, each dim over its standard deviation `std` (D,)."""

    std: Tensor
    max_seconds = MAX_WINDOW

    def __init__(self, net: Hubert, std: Tensor) -> None:
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        self.register_buffer("std", std)

    @classmethod
    @torch.no_grad()
    def of(cls, model: HubertSupernet, utterances: Sequence[Utterance]) -> OwnOutput:
        """That of the largest subnet of `model`; deviations on evenly spaced utterances.

        Raises `NasError` for a space with several embed dims, whose outputs cannot be compared.
        """
        space = model.space
        if space.embed_dims != (space.network.width,):
            raise NasError(
                f"a supernet without heads is trained at its network's width; space '{space.name}' has embed dims "
                f"{', '.join(map(str, space.embed_dims))} of {space.network.width}"
            )
        net = model.extract(space.largest).eval()
        first = next(net.parameters())
        states = []
        for utterance in utterances[:: max(1, len(utterances) // _STATISTICS)]:
            wave = model.heard(load_audio(utterance.audio, space.network.receptive_field, MAX_WINDOW))
            states.append(net(wave[None].to(first.device)).last_hidden_state[0])
        return cls(net, torch.cat(states).double().std(0).float() + 1e-3)

    @torch.no_grad()
    def targets(self, wav: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, 1, D) of wav (B, S)."""
        last: Tensor = self.net(wav, lengths).last_hidden_state
        return (last.float() / self.std).unsqueeze(2)

    def predictions(self, hidden_states: tuple[Tensor, ...]) -> list[Tensor]:
        """The last hidden state (B, T, D) in the same units."""
        return [hidden_states[-1].float() / self.std]


Goal = HeadTargets | OwnOutput
