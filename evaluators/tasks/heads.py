"""SUPERB's small heads: a weighted sum of hidden states, and a linear layer or a BLSTM on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ActivityHead", "CtcHead", "SpeakerHead", "UtteranceHead", "WeightedSum", "layer_weights"]


class WeightedSum(nn.Module):
    """Hidden states (L, ..., D) -> (..., D): softmax weights over layers, equal at first.

    Layers come first, so that the sum and its gradient are products of a vector with a contiguous matrix.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(layers))

    def forward(self, states: Tensor) -> Tensor:
        return (self.logits.softmax(0) @ states.flatten(1)).view(states.shape[1:])

    @property
    def weights(self) -> list[float]:
        return [round(weight, 4) for weight in self.logits.softmax(0).tolist()]


class UtteranceHead(nn.Module):
    """Classes from mean hidden states (L, B, D). The linear layer sees standardised means: the same maps, sooner."""

    def __init__(self, layers: int, dim: int, outputs: int) -> None:
        super().__init__()
        self.sum = WeightedSum(layers)
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.linear = nn.Linear(dim, outputs)

    def forward(self, means: Tensor) -> Tensor:
        summed = self.sum(means)
        if self.training and len(summed) == 1:  # no deviation in one utterance: use the running one
            mean, var = self.norm.running_mean, self.norm.running_var
            assert mean is not None
            assert var is not None
            return self.linear((summed - mean) / (var + self.norm.eps).sqrt())  # type: ignore[no-any-return]
        return self.linear(self.norm(summed))  # type: ignore[no-any-return]


class SpeakerHead(nn.Module):
    """Unit embeddings of mean hidden states, trained by telling the train speakers apart (AM-softmax).

    Scale 30 and margin 0.2 as SUPERB's speaker verification has them; trials are scored by cosine.
    """

    scale, margin = 30.0, 0.2

    def __init__(self, layers: int, dim: int, speakers: int, embedding: int = 128) -> None:
        super().__init__()
        self.embed = UtteranceHead(layers, dim, embedding)
        self.speakers = nn.Parameter(torch.empty(speakers, embedding))
        nn.init.xavier_normal_(self.speakers)

    def forward(self, means: Tensor) -> Tensor:
        return F.normalize(self.embed(means), dim=-1)

    def loss(self, means: Tensor, speakers: Tensor) -> Tensor:
        cosines = self(means) @ F.normalize(self.speakers, dim=-1).T
        return F.cross_entropy(self.scale * (cosines - self.margin * F.one_hot(speakers, cosines.shape[1])), speakers)


class CtcHead(nn.Module):
    """Letter log probabilities (B, T, letters + 1) from hidden states (L, B, T, D); index 0 is CTC's blank.

    `hidden` 0: a linear layer; above: a BLSTM of two layers with `hidden` units each way before it. The linear layer
    starts at zero: no alignment is preferred then, and seeds find more alike ones (docs/log.md).
    """

    def __init__(self, layers: int, dim: int, letters: int, hidden: int = 0) -> None:
        super().__init__()
        self.sum = WeightedSum(layers)
        self.blstm = nn.LSTM(dim, hidden, 2, batch_first=True, bidirectional=True) if hidden else None
        self.linear = nn.Linear(2 * hidden or dim, letters + 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        x = self.sum(states)
        if self.blstm is not None:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            x, _ = nn.utils.rnn.pad_packed_sequence(self.blstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.linear(x).log_softmax(-1)  # type: ignore[no-any-return]


class ActivityHead(nn.Module):
    """How active each speaker is, as logits (B, T, speakers), from hidden states (L, B, T, D): one LSTM, one layer."""

    def __init__(self, layers: int, dim: int, speakers: int, hidden: int) -> None:
        super().__init__()
        self.sum = WeightedSum(layers)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True)
        self.linear = nn.Linear(hidden, speakers)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        x, _ = self.lstm(self.sum(states))  # padding lies behind: one way only
        return self.linear(x)  # type: ignore[no-any-return]


def layer_weights(head: nn.Module) -> list[float]:
    """The weight of each hidden state in the head's weighted sum."""
    return next(module.weights for module in head.modules() if isinstance(module, WeightedSum))
