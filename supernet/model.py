"""The once-for-all supernet: stored weights that every subnet shares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from search_spaces import AudioError, Network, Space, SpaceError, Subnet, ffn_ratio
from supernet.calibration import CalibrationSpeech
from supernet.layers import (
    FRAME_MASKS,
    Encoder,
    Features,
    FrontEnd,
    Hubert,
    LogMel,
    fingerprint,
    frame_mask,
    front_channels,
)
from supernet.preprocessor import Preprocessor
from supernet.slicing import slice_front_end, slice_weights
from supernet.weights import on_meta

__all__ = ["COMPENSATIONS", "HubertSupernet", "WINDOWS", "check_compensation"]

COMPENSATIONS = ("none", "mean", "regression")
"""What stays of what a slice drops: nothing, its mean, or what the kept inputs of the same layer predict of it."""

WINDOWS = (0.0, 0.0, 15.0)
"""Least seconds to hear, silence included, of each three recordings that a network which hears padding is made by."""


class _StoredPositionalConv(nn.Module):
    """The positional convolution as stored: directions v, one gain g per tap, and the bias."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        width, kernel = network.width, network.pos_conv_kernel
        self.weight_v = nn.Parameter(torch.empty(width, width // network.pos_conv_groups, kernel))
        self.weight_g = nn.Parameter(torch.empty(1, 1, kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.weight_v, std=math.sqrt(4 / (kernel * width)))
        if not self.weight_v.is_meta:
            with torch.no_grad():
                self.weight_g.copy_(self.weight_v.norm(dim=(0, 1), keepdim=True))


def check_compensation(kind: str) -> None:
    """Raises `SpaceError` for what is none of `COMPENSATIONS`."""
    if kind not in COMPENSATIONS:
        raise SpaceError(f"compensation must be one of {', '.join(COMPENSATIONS)}; got {kind!r}")


class HubertSupernet(nn.Module):
    """The weights of a whole `Space`. A `with` block sets which subnet runs:

        with model.active(subnet):
            out = model.extract_features(wav, lengths)

    Outside any block the largest subnet of the space runs. Each call slices the stored weights again; slices are
    never state. `head_layers` are the layers (from 1) whose outputs have a prediction head of `head_dim` outputs; in a
    subnet without such a layer, the head reads the last kept layer before it. `prepare` turns samples (S,) into the
    waveform that the network takes; default: as fairseq. `compensation`: what stays of dropped heads and FFN units,
    one of `COMPENSATIONS` (`importance.compensate`).
    """

    def __init__(
        self,
        space: Space,
        head_layers: tuple[int, ...] = (),
        head_dim: int = 0,
        frame_rule: str = "conv",
        provenance: Mapping[str, object] | None = None,
        prepare: Preprocessor | None = None,
        compensation: str = "none",
    ) -> None:
        super().__init__()
        check_compensation(compensation)
        if frame_rule not in FRAME_MASKS:
            raise SpaceError(f"frame_rule must be one of {', '.join(FRAME_MASKS)}; got {frame_rule!r}")
        network = space.network
        self.space, self.frame_rule = space, frame_rule
        self.head_layers, self.head_dim = head_layers, head_dim
        self.prepare = prepare or Preprocessor()
        self.provenance: dict[str, Any] = dict(provenance or {})
        self.calibration: CalibrationSpeech | None = None  # set by load_supernet if the folder has some
        self.trained_for_space = True
        self.source: Path | None = None  # a folder with the rest of the model: Whisper's decoder and tokenizer
        self.front_end = FrontEnd(network)  # whole; `features` slices it
        full = Subnet(
            network.width,
            (network.heads,) * network.num_layers,
            (ffn_ratio(network.ffn_dim, network.width),) * network.num_layers,
        )
        self.encoder = Encoder(network, full)
        if network.positions == "conv":
            self.encoder.pos_conv = _StoredPositionalConv(network)  # type: ignore[assignment]
        self.add_compensation(compensation)
        self.mask_embedding = nn.Parameter(torch.empty(network.width).uniform_())
        self.heads: Sequence[nn.Linear] = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(network.width, head_dim, bias=False) for _ in head_layers
        )
        self._init_weights()
        self._subnet = space.largest

    def _init_weights(self) -> None:
        """BERT's initialisation: standard deviation 0.02 at width 768, proportional to 1 / sqrt(width)."""
        std = 0.02 * math.sqrt(768 / self.space.network.width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    # ---------------------------------------------------------------- the active subnet

    @property
    def subnet(self) -> Subnet:
        """The active subnet."""
        return self._subnet

    @contextmanager
    def active(self, subnet: Subnet) -> Iterator[HubertSupernet]:
        """Runs the block with this subnet; afterwards, also after an error, the previous one is active again."""
        self.space.check(subnet)
        before, self._subnet = self._subnet, subnet
        try:
            yield self
        finally:
            self._subnet = before

    def fingerprint(self) -> str:
        """12 hex digits that identify the weights."""
        return fingerprint(self)

    def use_space(self, space: Space) -> None:
        """Restricts this supernet, in place, to `space`: a part of its current space, of the same network.

        A network that was not trained for a space (`trained_for_space` is False) takes any space of its sizes. The
        largest subnet of `space` becomes the active one. Raises `SpaceError` for any other space.
        """
        if space.network != self.space.network:
            raise SpaceError(f"space '{space.name}' is of another network than the supernet's, '{self.space.name}'")
        for depth in space.depths if self.trained_for_space else ():
            if space.kept_layers(depth) != self.space.kept_layers(depth):
                raise SpaceError(f"space '{space.name}' keeps other layers at depth {depth} than '{self.space.name}'")
        for subnet in space.covering() if self.trained_for_space else ():
            self.space.check(subnet)
        self.space, self._subnet = space, space.largest

    def add_compensation(self, kind: str) -> None:
        """Stores means of the inputs of `out` and `fc2` in each layer, 0 at first, and bases, the identity at first.

        That changes no subnet. "none" takes away what is stored: see `importance.plain`, which keeps the whole network.
        """
        self.compensation = kind
        for layer in self.encoder.layers:
            for part in (layer.out, layer.fc2):
                assert isinstance(part, nn.Linear)
                inputs = part.in_features
                part.register_buffer("mean", None if kind == "none" else part.weight.new_zeros(inputs))
                part.register_buffer("basis", torch.eye(inputs).to(part.weight) if kind == "regression" else None)

    def stored_weights(self) -> dict[str, Tensor]:
        """The encoder's stored weights by name."""
        return {**dict(self.encoder.named_parameters()), **dict(self.encoder.named_buffers())}

    def sliced_weights(self, subnet: Subnet | None = None) -> dict[str, Tensor]:
        """Slices of the stored encoder weights for a subnet (default: the active one), named as in `layers.Encoder`."""
        return slice_weights(self.stored_weights(), self.space, subnet or self._subnet)

    # ---------------------------------------------------------------- forward pass

    def heard(self, samples: npt.NDArray[np.float32], window: float = 0.0) -> Tensor:
        """(S,): samples of a recording as `prepare` makes them; if the network hears padding, with silence after them.

        That is up to a whole second and one more: without it Whisper's hidden states have outlier frames, and its
        decoder's cross-entropy is twice that of a window of 10 s (docs/log.md). `window`: up to so many seconds at
        least.
        """
        wave = torch.from_numpy(self.prepare(samples))
        return F.pad(wave, (0, self.space.network.heard_samples(len(wave), window) - len(wave)))

    def forward(self, wav: Tensor, lengths: Tensor | None = None) -> Features:
        """Hidden states of wav (B, S), float, as `prepare` makes it; `lengths` (B,) in samples if it is padded."""
        most = self.space.network.max_samples
        if most is not None and wav.shape[1] > most:
            raise AudioError(
                f"this network hears at most {most / 16_000:g} s; got {wav.shape[1] / 16_000:g} s: split it"
            )
        features = self.features(wav)
        return self.encode(features, self.frame_mask(lengths, wav.shape[1], features.shape[1]))

    extract_features = forward

    def features(self, wav: Tensor, front_end: tuple[int, ...] | None = None) -> Tensor:
        """Front-end features (B, T, C) of wav (B, S), which are the same for every subnet with this front end.

        `front_end`: channels of each convolution, () for all; default: those of the active subnet.
        """
        channels = self._subnet.front_end if front_end is None else front_end
        if not channels:
            return self.front_end(wav)  # type: ignore[no-any-return]
        sliced = slice_front_end(dict(self.front_end.named_parameters()), channels)
        return functional_call(_front_skeleton(self.space.network, channels), sliced, (wav,))  # type: ignore[no-any-return]

    def frame_mask(self, lengths: Tensor | None, samples: int, frames: int) -> Tensor | None:
        """(B, T), True for frames of speech; see `layers.frame_mask`."""
        return frame_mask(self.space.network, lengths, samples, frames, self.frame_rule)

    def features_of_each(self, wav: Tensor) -> dict[tuple[int, ...], Tensor]:
        """The features (B, T, C) of every front end of the space."""
        return {front_end: self.features(wav, front_end) for front_end in self.space.front_ends}

    def encode(self, features: Tensor, mask: Tensor | None = None, masked: Tensor | None = None) -> Features:
        """Hidden states of front-end features (B, T, C) of the active subnet's front end.

        `mask` (B, T): True for frames of speech; `masked` (B, T): True for frames hidden from the student in training.
        """
        subnet = self._subnet
        dim = self.space.network.outer(subnet.embed_dim)
        embedding = None if masked is None else self.mask_embedding[:dim]
        hidden = functional_call(
            _skeleton(self.space.network, subnet),
            self.sliced_weights(subnet),
            (features, mask, masked, embedding),
            strict=True,
        )
        return Features(hidden, mask)

    def predict(self, hidden_states: tuple[Tensor, ...]) -> list[Tensor]:
        """The active subnet's predictions (B, T, head_dim) of the teacher's targets, one per head."""
        positions = enumerate(self.head_positions())
        return [self.predict_head(head, hidden_states[position]) for head, position in positions]

    def head_positions(self) -> list[int]:
        """For each head, which of the active subnet's hidden states it reads: its layer's or the last kept before."""
        kept = self.space.kept_layers(self._subnet.depth)
        return [sum(k < layer for k in kept) for layer in self.head_layers]  # head layers count from 1

    def predict_head(self, head: int, hidden: Tensor) -> Tensor:
        """The prediction (B, T, head_dim) of one head from its hidden state (B, T, D)."""
        return F.linear(hidden, self.heads[head].weight[:, : hidden.shape[-1]])

    def extract(self, subnet: Subnet | None = None) -> Hubert:
        """A plain copy of a subnet (default: the active one), which shares no memory with the supernet."""
        subnet = subnet or self._subnet
        self.space.check(subnet)
        net = Hubert(self.space.network, subnet, self.frame_rule, self.prepare)
        weights = {f"encoder.{name}": value for name, value in self.sliced_weights(subnet).items()}
        front_end = slice_front_end(dict(self.front_end.named_parameters()), front_channels(self.space.network, subnet))
        weights |= {f"front_end.{name}": value for name, value in front_end.items()}
        first = self.mask_embedding
        net.to(device=first.device, dtype=first.dtype)
        net.load_state_dict({name: value.detach().clone() for name, value in weights.items()}, strict=True)
        return net.train(self.training)


@lru_cache(maxsize=256)
def _skeleton(network: Network, subnet: Subnet) -> Encoder:
    """The subnet's encoder on the meta device: shapes and forward pass, no memory."""
    with on_meta():
        return Encoder(network, subnet)


@lru_cache(maxsize=64)
def _front_skeleton(network: Network, channels: tuple[int, ...]) -> FrontEnd:
    with on_meta():
        net = FrontEnd(network, channels)
    if net.mel is not None:  # its constants are no weights
        net.mel = LogMel(network.mels)
    return net
