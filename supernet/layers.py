"""The plain network of one subnet: front end and encoder, without any slicing.

A supernet runs the same `Encoder.forward` on slices of its stored weights (`torch.func.functional_call`), so that
there is one forward pass to read, test and export.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:  # at run time this file needs torch alone, since exports contain a copy of it
    from search_spaces import Network, Subnet
    from supernet.preprocessor import Preprocessor

__all__ = [
    "Encoder",
    "EncoderLayer",
    "FRAME_MASKS",
    "Features",
    "FrontEnd",
    "Hubert",
    "attention",
    "fingerprint",
    "frame_mask",
    "speech_frames",
]

FRAME_MASKS = ("conv", "fairseq")

Mix = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k, v (..., T, H, head dim) -> attention's output, same shape


class Features(NamedTuple):
    """`hidden_states`: the projected input, then the output of each kept layer, each (B, T, D).

    `mask`: (B, T), True for frames of speech, False for padding; None if nothing is padded.
    """

    hidden_states: tuple[Tensor, ...]
    mask: Tensor | None

    @property
    def last_hidden_state(self) -> Tensor:
        return self.hidden_states[-1]


class FrontEnd(nn.Module):
    """wav2vec 2.0's convolutions: wav (B, S) -> features (B, T, C). Group norm after the first, no biases."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        inputs = [1, *[channels for channels, _, _ in network.conv_layers]]
        self.convs = nn.ModuleList(
            nn.Conv1d(inputs[i], channels, kernel, stride, bias=False)
            for i, (channels, kernel, stride) in enumerate(network.conv_layers)
        )
        self.norm = nn.GroupNorm(inputs[1], inputs[1])

    def forward(self, wav: Tensor) -> Tensor:
        x = wav.unsqueeze(1)
        for i, conv in enumerate(self.convs):
            x = conv(x)
            x = F.gelu(self.norm(x) if i == 0 else x)
        return x.transpose(1, 2)


class EncoderLayer(nn.Module):
    """One post-norm Transformer layer of embed dim D, `heads` heads and FFN dim F."""

    def __init__(self, dim: int, heads: int, head_dim: int, ffn_dim: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.head_dim = head_dim
        self.q, self.k, self.v = nn.Linear(dim, inner), nn.Linear(dim, inner), nn.Linear(dim, inner)
        self.out = nn.Linear(inner, dim)
        self.attention_norm = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, ffn_dim), nn.Linear(ffn_dim, dim)
        self.final_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, T, D), mask (B, 1, 1, T) or None -> (B, T, D)."""
        return self.feed(self.attend(x, partial(attention, mask=mask)))

    def attend(self, x: Tensor, mix: Mix) -> Tensor:
        """The first half of the layer, (..., T, D) -> (..., T, D): it depends on the heads, not on the FFN dim."""
        q, k, v = (part(x).unflatten(-1, (-1, self.head_dim)) for part in (self.q, self.k, self.v))
        return self.attention_norm(x + self.out(mix(q, k, v).flatten(-2)))  # type: ignore[no-any-return]

    def feed(self, x: Tensor) -> Tensor:
        """The second half, (..., D) -> (..., D)."""
        return self.final_norm(x + self.fc2(F.gelu(self.fc1(x))))  # type: ignore[no-any-return]


def _low_precision_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention on (B, T, H, head dim); `mask` (B, 1, 1, T).

    Training in bf16 on a CPU uses separate operations: the fused kernel takes 2-4 times as long there.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    scale = q.shape[-1] ** -0.5
    if not (q.requires_grad and _low_precision_cpu(q)):
        fused: Tensor = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return fused.transpose(1, 2)
    products = (q * scale) @ k.transpose(-1, -2)
    if mask is not None:
        products = products.masked_fill(~mask, -torch.inf)
    mixed: Tensor = products.softmax(-1) @ v
    return mixed.transpose(1, 2)


class Encoder(nn.Module):
    """Projection, positions and Transformer layers of one subnet: front-end features (B, T, C) -> hidden states."""

    def __init__(self, network: Network, subnet: Subnet) -> None:
        super().__init__()
        D = subnet.embed_dim
        self.input_norm = nn.LayerNorm(network.conv_channels)
        self.projection = nn.Linear(network.conv_channels, D)
        kernel = network.pos_conv_kernel
        self.pos_conv = nn.Conv1d(D, D, kernel, padding=kernel // 2, groups=network.pos_conv_groups)
        self.norm = nn.LayerNorm(D)
        self.layers = nn.ModuleList(
            EncoderLayer(D, heads, network.head_dim, ffn_dim)
            for heads, ffn_dim in zip(subnet.heads, subnet.ffn_dims, strict=True)
        )

    def forward(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        masked: Tensor | None = None,
        mask_embedding: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """`mask` (B, T): True for speech. `masked` (B, T): frames replaced by `mask_embedding` (D) in training."""
        keys = None if mask is None else mask[:, None, None, :]
        projected, x = self.start(features, mask, masked, mask_embedding)
        hidden = [projected]
        for layer in self.layers:
            x = layer(x, keys)
            hidden.append(x)
        return tuple(hidden)

    def start(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        masked: Tensor | None = None,
        mask_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Everything before the layers: the projected input, and the input of the first layer, each (B, T, D)."""
        projected = self._projected(features, mask, masked, mask_embedding)
        return projected, self.norm(projected + F.gelu(self._positions(projected)))

    def _projected(
        self, features: Tensor, mask: Tensor | None, masked: Tensor | None, mask_embedding: Tensor | None
    ) -> Tensor:
        x: Tensor = self.projection(self.input_norm(features))
        if masked is not None and mask_embedding is not None:
            x = torch.where(masked.unsqueeze(-1), mask_embedding.to(x.dtype), x)
        if mask is not None:
            x = x * mask.unsqueeze(-1).to(x.dtype)
        return x

    def _positions(self, x: Tensor) -> Tensor:
        """The positional convolution (B, T, D).

        On CPUs with AMX, oneDNN's half-precision forward pass is wrong for even kernels with fewer than 16 channels
        per group (docs/log.md). An additional tap of zeros makes the kernel odd.
        """
        x, T, conv = x.transpose(1, 2), x.shape[1], self.pos_conv
        if _low_precision_cpu(x):
            convolved = F.conv1d(x, F.pad(conv.weight, (0, 1)), conv.bias, padding=conv.padding[0], groups=conv.groups)
        else:
            convolved = conv(x)
        return convolved[..., :T].transpose(1, 2)  # an even kernel gives T + 1


class Hubert(nn.Module):
    """One subnet as a model of its own, with plain modules and weights. Made by `extract_subnet`."""

    def __init__(
        self, network: Network, subnet: Subnet, frame_rule: str = "conv", prepare: Preprocessor | None = None
    ) -> None:
        super().__init__()
        self.network, self.subnet, self.frame_rule = network, subnet, frame_rule
        self.prepare = prepare
        self.front_end = FrontEnd(network)
        self.encoder = Encoder(network, subnet)

    def forward(self, wav: Tensor, lengths: Tensor | None = None) -> Features:
        """Hidden states of wav (B, S), float, normalised per utterance; `lengths` (B,) in samples if it is padded."""
        features = self.front_end(wav)
        mask = frame_mask(self.network, lengths, wav.shape[1], features.shape[1], self.frame_rule)
        return Features(self.encoder(features, mask), mask)

    extract_features = forward


def frame_mask(network: Network, lengths: Tensor | None, samples: int, frames: int, rule: str) -> Tensor | None:
    """(B, T), True for frames of speech; None if no utterance is padded."""
    if lengths is None or bool((lengths == samples).all()):
        return None
    return speech_frames(network, lengths, samples, frames, rule)


def speech_frames(network: Network, lengths: Tensor, samples: int, frames: int, rule: str) -> Tensor:
    """(B, T), True for frames of speech. No branch depends on the values of `lengths`, so that it can be traced.

    `rule` "conv": a frame is speech if the front end computes it for the unpadded utterance (Hugging Face).
    `rule` "fairseq": the batch is divided into T chunks of S // T samples, and a frame is speech if its chunk contains
    any (fairseq, LightHuBERT: one frame more at the end of most utterances).
    """
    if rule == "fairseq":
        chunk = samples // frames
        valid = torch.div(lengths + chunk - 1, chunk, rounding_mode="floor")
    else:
        valid = lengths
        for _, kernel, stride in network.conv_layers:
            valid = torch.div(valid - kernel, stride, rounding_mode="floor") + 1
    return torch.arange(frames, device=lengths.device) < valid.unsqueeze(1)


def fingerprint(module: nn.Module) -> str:
    """12 hex digits that identify the weights."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
