"""The once-for-all supernet: stored weights that every subnet shares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from search_spaces import Network, Space, SpaceError, Subnet, ffn_ratio
from search_spaces.types import JsonMapping, JsonObject
from supernet.calibration import CalibrationSpeech
from supernet.layers import FRAME_MASKS, Encoder, Features, FrontEnd, Hubert, fingerprint, frame_mask
from supernet.slicing import slice_weights

__all__ = ["HubertSupernet"]


class _StoredPositionalConv(nn.Module):
    """The positional convolution as stored: direction v, one gain g for each tap, bias."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        width, kernel = network.width, network.pos_conv_kernel
        self.weight_v = nn.Parameter(torch.empty(width, width // network.pos_conv_groups, kernel))
        self.weight_g = nn.Parameter(torch.empty(1, 1, kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.weight_v, std=math.sqrt(4 / (kernel * width)))
        with torch.no_grad():
            self.weight_g.copy_(self.weight_v.norm(dim=(0, 1), keepdim=True))


class HubertSupernet(nn.Module):
    """Weights of a whole `Space`. Which subnet runs is set by a `with` block:

        with model.active(subnet):
            out = model.extract_features(wav, lengths)

    Outside any block the largest subnet of the space runs. Slices are taken from the stored weights at each call
    and are never kept. `head_layers` are the (1-based) layers whose outputs have a prediction head of `head_dim`
    outputs; a subnet that dropped such a layer uses its last kept layer before it.
    """

    def __init__(
        self,
        space: Space,
        head_layers: tuple[int, ...] = (),
        head_dim: int = 0,
        frame_rule: str = "conv",
        provenance: JsonMapping | None = None,
    ) -> None:
        super().__init__()
        if frame_rule not in FRAME_MASKS:
            raise SpaceError(f"frame_rule must be one of {', '.join(FRAME_MASKS)}; got {frame_rule!r}")
        network = space.network
        self.space, self.frame_rule = space, frame_rule
        self.head_layers, self.head_dim = head_layers, head_dim
        self.provenance: JsonObject = dict(provenance or {})
        self.calibration: CalibrationSpeech | None = None  # set by load_supernet where the folder brings one
        self.front_end = FrontEnd(network)
        full = Subnet(
            network.width,
            (network.heads,) * network.num_layers,
            (ffn_ratio(network.ffn_dim, network.width),) * network.num_layers,
        )
        self.encoder = Encoder(network, full)
        self.encoder.pos_conv = _StoredPositionalConv(network)  # type: ignore[assignment]
        self.mask_embedding = nn.Parameter(torch.empty(network.width).uniform_())
        self.heads: Sequence[nn.Linear] = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(network.width, head_dim, bias=False) for _ in head_layers
        )
        self._init_weights()
        self._subnet = space.largest

    def _init_weights(self) -> None:
        """BERT's init, its deviation of 0.02 at width 768 kept in proportion for other widths."""
        std = 0.02 * math.sqrt(768 / self.space.network.width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)

    # ---------------------------------------------------------------- the active subnet

    @property
    def subnet(self) -> Subnet:
        """The active subnet."""
        return self._subnet

    @contextmanager
    def active(self, subnet: Subnet) -> Iterator[HubertSupernet]:
        """Runs the block with this subnet; the one before is restored, whatever happens."""
        self.space.check(subnet)
        before, self._subnet = self._subnet, subnet
        try:
            yield self
        finally:
            self._subnet = before

    def fingerprint(self) -> str:
        """12 hex digits that stand for the weights: another supernet has others."""
        return fingerprint(self)

    def use_space(self, space: Space) -> None:
        """Confines the supernet to a part of its space: another set of subnets of the same network."""
        if space.network != self.space.network:
            raise SpaceError(f"space '{space.name}' is of another network than supernet space '{self.space.name}'")
        for depth in space.depths:
            if space.kept_layers(depth) != self.space.kept_layers(depth):
                raise SpaceError(f"space '{space.name}' keeps other layers at depth {depth} than '{self.space.name}'")
        for subnet in (space.smallest, space.middle, space.largest):
            self.space.check(subnet)
        self.space, self._subnet = space, space.largest

    def sliced_weights(self, subnet: Subnet | None = None) -> dict[str, Tensor]:
        """The (active) subnet's encoder weights, named as in `layers.Encoder`: slices of the stored ones."""
        stored = dict(self.encoder.named_parameters())
        return slice_weights(stored, self.space, subnet or self._subnet)

    # ---------------------------------------------------------------- running it

    def forward(self, wav: Tensor, lengths: Tensor | None = None) -> Features:
        """Hidden states of wav (B, S), float, normalised per utterance; `lengths` (B,) in samples where padded."""
        features = self.front_end(wav)
        return self.encode(features, self.frame_mask(lengths, wav.shape[1], features.shape[1]))

    extract_features = forward

    def frame_mask(self, lengths: Tensor | None, samples: int, frames: int) -> Tensor | None:
        """(B, T), True where a frame is speech; see `layers.frame_mask`."""
        return frame_mask(self.space.network, lengths, samples, frames, self.frame_rule)

    def encode(self, features: Tensor, mask: Tensor | None = None, masked: Tensor | None = None) -> Features:
        """Hidden states of front-end features (B, T, C), which are the same for every subnet.

        `mask` (B, T): True where speech; `masked` (B, T): frames hidden from the student in training.
        """
        subnet = self._subnet
        embedding = None if masked is None else self.mask_embedding[: subnet.embed_dim]
        hidden = functional_call(
            _skeleton(self.space.network, subnet),
            self.sliced_weights(subnet),
            (features, mask, masked, embedding),
            strict=True,
        )
        return Features(hidden, mask)

    def predict(self, hidden_states: tuple[Tensor, ...]) -> list[Tensor]:
        """One prediction (B, T, head_dim) of the teacher for each of `head_layers`, from the active subnet."""
        positions = enumerate(self.head_positions())
        return [self.predict_head(head, hidden_states[position]) for head, position in positions]

    def head_positions(self) -> list[int]:
        """Which of the active subnet's hidden states each head reads: that of its layer, or of the last kept before."""
        kept = self.space.kept_layers(self._subnet.depth)
        return [sum(k < layer for k in kept) for layer in self.head_layers]  # head layers count from 1

    def predict_head(self, head: int, hidden: Tensor) -> Tensor:
        """The prediction (B, T, head_dim) of one head from its hidden state (B, T, D)."""
        return F.linear(hidden, self.heads[head].weight[:, : hidden.shape[-1]])

    def extract(self, subnet: Subnet | None = None) -> Hubert:
        """A plain copy of the (active) subnet, sharing no memory with the supernet."""
        subnet = subnet or self._subnet
        self.space.check(subnet)
        net = Hubert(self.space.network, subnet, self.frame_rule)
        weights = {f"encoder.{name}": value for name, value in self.sliced_weights(subnet).items()}
        weights |= {f"front_end.{name}": value for name, value in self.front_end.named_parameters()}
        first = next(iter(weights.values()))
        net.to(device=first.device, dtype=first.dtype)
        net.load_state_dict({name: value.detach().clone() for name, value in weights.items()}, strict=True)
        return net.train(self.training)


@lru_cache(maxsize=256)
def _skeleton(network: Network, subnet: Subnet) -> Encoder:
    """The subnet's encoder without memory: shapes and forward pass only."""
    with torch.device("meta"):
        return Encoder(network, subnet)
