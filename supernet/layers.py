"""The plain network of one subnet: front end and encoder by parts, without any slicing.

A supernet runs the same `Encoder.forward` on slices of its stored weights (`torch.func.functional_call`), so that
there is one forward pass to read, test and export.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

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
    "LogMel",
    "RelativePositions",
    "StreamNorm",
    "attention",
    "fingerprint",
    "frame_mask",
    "front_channels",
    "speech_frames",
]

FRAME_MASKS = ("conv", "fairseq")
# all but cuDNN's, which is compiled anew for each shape: with many lengths that is most of the time
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

Relative = tuple[Tensor, Callable[[int], Tensor]]  # gates (..., T, H) and the biases (H, T, T) of T frames
Mix = Callable[[Tensor, Tensor, Tensor, "Relative | None"], Tensor]
"""q, k, v (..., T, H, head dim) and what positions add -> attention's output, (..., T, H, head dim)."""


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
    """Convolutions: wav (B, S) -> features (B, T, C), through a mel spectrogram if the network has one.

    `channels`: of each convolution, by default all that are stored.
    """

    def __init__(self, network: Network, channels: Sequence[int] = ()) -> None:
        super().__init__()
        channels = channels or [layer[0] for layer in network.conv_layers]
        inputs, mel = [network.mels or 1, *channels], network.front_end == "mel"
        self.mel = LogMel(network.mels) if mel else None
        self.convs = nn.ModuleList(
            nn.Conv1d(inputs[i], inputs[i + 1], kernel, stride, kernel // 2 if mel else 0, bias=network.conv_bias)
            for i, (_, kernel, stride) in enumerate(network.conv_layers)
        )
        self.norm = nn.GroupNorm(channels[0], channels[0]) if network.conv_norm == "group" else None
        self.norms = nn.ModuleList(map(nn.LayerNorm, channels)) if network.conv_norm == "layer" else None

    def forward(self, wav: Tensor) -> Tensor:
        return _last(self.outputs(wav)).transpose(1, 2)

    def of_mel(self, mel: Tensor) -> Tensor:
        """The features of a spectrogram (B, mels, frames) that was computed elsewhere."""
        return _last(self._convolved(mel)).transpose(1, 2)

    def outputs(self, wav: Tensor) -> Iterator[Tensor]:
        """What each convolution passes on, (B, C, T)."""
        return self._convolved(wav.unsqueeze(1) if self.mel is None else self.mel(wav).to(self.convs[0].weight.dtype))

    def _convolved(self, x: Tensor) -> Iterator[Tensor]:
        for i, conv in enumerate(self.convs):
            x = conv(x)
            if self.norm is not None and i == 0:
                x = self.norm(x)
            if self.norms is not None:
                x = self.norms[i](x.transpose(1, 2)).transpose(1, 2)
            x = F.gelu(x)
            yield x


def _last(values: Iterator[Tensor]) -> Tensor:
    """The last of them; none is kept."""
    value = next(values)
    for value in values:  # noqa: B007
        pass
    return value


def front_channels(network: Network, subnet: Subnet) -> tuple[int, ...]:
    """Channels of each convolution of a subnet; the last of a mel front end are the subnet's embed dim."""
    channels = tuple(subnet.front_end) or tuple(layer[0] for layer in network.conv_layers)
    return (*channels[:-1], _outer(network, subnet.embed_dim)) if network.front_end == "mel" else channels


def _outer(network: Network, dim: int) -> int:
    """As `Network.outer`: exports have this file and plain values of a network, without its methods."""
    return network.width if _rotated(network) else dim


def _rotated(network: Network) -> bool:
    return getattr(network, "rotated", False)  # exports of before know no such networks


class LogMel(nn.Module):
    """Whisper's spectrogram: wav (B, S) -> (B, mels, S // 160), in float32.

    25 ms Hann windows every 10 ms; Slaney's mel scale up to 8 kHz; decadic logarithms, at most 8 under the utterance's
    greatest, then (x + 4) / 4.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, mels: int, window: int = 400, hop: int = 160) -> None:
        super().__init__()
        self.hop = hop
        self.register_buffer("window", torch.hann_window(window, dtype=torch.float32).clone(), persistent=False)
        self.register_buffer("filters", _mel_filters(mels, window // 2 + 1).contiguous(), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        window = self.window.float()
        spectrum = torch.stft(wav.float(), len(window), self.hop, window=window, return_complex=True)
        power = torch.view_as_real(spectrum[..., :-1]).square().sum(-1)
        logs = (self.filters.float() @ power).clamp(min=1e-10).log10()
        return (torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def _mel_filters(mels: int, bins: int, top: float = 8000.0) -> Tensor:
    """(mels, bins) triangles of equal area on Slaney's scale: linear to 1 kHz, logarithmic above."""
    log_step, hertz_a_mel, knee = math.log(6.4) / 27, 200 / 3, 1000.0
    at = torch.linspace(0, knee / hertz_a_mel + math.log(top / knee) / log_step, mels + 2, dtype=torch.float64)
    edges = torch.where(
        at * hertz_a_mel < knee, at * hertz_a_mel, knee * torch.exp(log_step * (at - knee / hertz_a_mel))
    )
    frequencies = torch.linspace(0, top, bins, dtype=torch.float64)
    slopes = (edges[:, None] - frequencies) / edges.diff(append=edges[-1:] + 1)[:, None]
    rising, falling = -slopes[:-2], (edges[2:, None] - frequencies) / edges.diff()[1:, None]
    return (torch.minimum(rising, falling).clamp(min=0) * (2 / (edges[2:] - edges[:-2]))[:, None]).float()


class RelativePositions(nn.Module):
    """WavLM's gated relative position bias for the heads of one layer.

    `weight` (buckets, H): a bias for each distance, logarithmic for the far ones. A gate scales it for each frame and
    head; it reads one block of `head_dim` of the layer's input: `blocks` (H,) says which. Heads may be permuted and
    taken away, so each layer has its own copy. Blocks beyond the embed dim are read as zeros.
    """

    blocks: Tensor

    def __init__(self, network: Network, heads: int) -> None:
        super().__init__()
        self.head_dim, self.width = network.head_dim, network.width
        self.buckets, self.distance = network.relative_buckets, network.relative_distance
        self.weight = nn.Parameter(torch.empty(self.buckets, heads).normal_())
        self.gate = nn.Linear(self.head_dim, 8)
        self.const = nn.Parameter(torch.ones(heads))
        self.register_buffer("blocks", torch.arange(heads))

    def gates(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., H)."""
        padded = F.pad(x, (0, self.width - x.shape[-1])) if x.shape[-1] < self.width else x
        parts = torch.unflatten(padded, -1, (-1, self.head_dim)).index_select(-2, self.blocks)
        gates: Tensor = self.gate(parts)
        a, b = torch.unflatten(gates, -1, (2, 4)).sum(-1).sigmoid().unbind(-1)
        return a * (b * self.const - 1.0) + 2.0  # type: ignore[no-any-return]

    def bias(self, frames: int) -> Tensor:
        """(H, T, T)."""
        frame = torch.arange(frames, device=self.weight.device)
        buckets = self._bucket(frame - frames + 1), self._bucket(frame[1:])  # of the distances -T + 1 .. 0, 1 .. T - 1
        return self.weight[torch.cat(buckets)].t()[:, frame - frame[:, None] + frames - 1]

    def _bucket(self, distance: Tensor) -> Tensor:
        half, far = self.buckets // 2, distance.abs()
        exact = half // 2
        log = torch.log(far.clamp(min=1).float() / exact) / math.log(self.distance / exact) * (half - exact)
        logarithmic = (exact + log).long().clamp(max=half - 1)
        return (distance > 0).long() * half + torch.where(far < exact, far, logarithmic)


class StreamNorm(nn.Module):
    """The norm of a rotated residual stream: x over its root mean square, without weights.

    The mean is over all `width` dims, of which those that vary least may be missing: slices are scaled as the whole.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = torch.rsqrt(x.square().sum(-1, keepdim=True) / self.width + 1e-5)
        return x * scale


def _norm(network: Network, dim: int) -> nn.Module:
    return StreamNorm(network.width) if _rotated(network) else nn.LayerNorm(dim)


class EncoderLayer(nn.Module):
    """One Transformer layer of embed dim D, `heads` heads and FFN dim F.

    0 of one takes away that half: what stays of it is the bias of its output, and its norm if that comes last, so that
    it is the limit of ever fewer heads or units (better than the identity by measurement: docs/log.md). 0 of both takes
    away the layer.
    """

    def __init__(self, network: Network, dim: int, heads: int, ffn_dim: int) -> None:
        super().__init__()
        inner = heads * network.head_dim
        self.head_dim, self.norm_first, self.heads, self.ffn_dim = network.head_dim, network.norm_first, heads, ffn_dim
        self.relative: RelativePositions | None = None
        if not heads and not ffn_dim:
            return
        if heads:
            self.q, self.k = nn.Linear(dim, inner), nn.Linear(dim, inner, bias=network.key_bias)
            self.v = nn.Linear(dim, inner)
        self.out = nn.Linear(inner, dim) if heads else _Bias(dim)
        if heads or not network.norm_first:
            self.attention_norm = _norm(network, dim)
        if ffn_dim:
            self.fc1 = nn.Linear(dim, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, dim) if ffn_dim else _Bias(dim)
        if ffn_dim or not network.norm_first:
            self.final_norm = _norm(network, dim)
        if heads and network.relative_buckets:
            self.relative = RelativePositions(network, heads)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, T, D), mask (B, 1, 1, T) or None -> (B, T, D)."""
        return self.feed(self.attend(x, lambda q, k, v, relative: attention(q, k, v, mask, relative)))

    def attend(self, x: Tensor, mix: Mix) -> Tensor:
        """The first half of the layer, (..., T, D) -> (..., T, D): it depends on the heads, not on the FFN dim."""
        if not self.heads and not self.ffn_dim:
            return x
        if self.heads:
            y = self.attention_norm(x) if self.norm_first else x
            q, k, v = (part(y).unflatten(-1, (-1, self.head_dim)) for part in (self.q, self.k, self.v))
            relative = None if self.relative is None else (self.relative.gates(y), self.relative.bias)
            y = x + self.out(mix(q, k, v, relative).flatten(-2))
        else:
            y = x + self.out.bias
        return y if self.norm_first else self.attention_norm(y)  # type: ignore[no-any-return]

    def feed(self, x: Tensor) -> Tensor:
        """The second half, (..., D) -> (..., D)."""
        if not self.heads and not self.ffn_dim:
            return x
        if self.ffn_dim:
            y = x + self.fc2(F.gelu(self.fc1(self.final_norm(x) if self.norm_first else x)))
        else:
            y = x + self.fc2.bias
        return y if self.norm_first else self.final_norm(y)  # type: ignore[no-any-return]


class _Bias(nn.Module):
    """What stays of a linear layer without inputs."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))


def _low_precision_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, relative: Relative | None = None) -> Tensor:
    """Scaled dot-product attention on (B, T, H, head dim); `mask` (B, 1, 1, T).

    Separate operations are used for relative positions, whose biases are as large as the products, and for training in
    bf16 on a CPU: the fused kernel takes 2-4 times as long there.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    scale = q.shape[-1] ** -0.5
    if relative is None and not (q.requires_grad and _low_precision_cpu(q)):
        with sdpa_kernel(_KERNELS) if q.is_cuda else nullcontext():
            fused: Tensor = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return fused.transpose(1, 2)
    products = (q * scale) @ k.transpose(-1, -2)
    if relative is not None:
        gates, bias = relative
        products = products + (gates.transpose(1, 2).unsqueeze(-1) * bias(q.shape[2])).to(products.dtype)
    if mask is not None:
        products = products.masked_fill(~mask, -torch.inf)
    mixed: Tensor = products.softmax(-1) @ v
    return mixed.transpose(1, 2)


class Encoder(nn.Module):
    """Projection, positions and Transformer layers of one subnet: front-end features (B, T, C) -> hidden states.

    `dim`: the width of the hidden states.

    After a mel front end there is no projection: the first D features are the input. A rotated network has all features
    and positions; `entry` takes the first D coordinates of the layers' stream from them, and `exit` leads back.
    """

    def __init__(self, network: Network, subnet: Subnet) -> None:
        super().__init__()
        D, C = _outer(network, subnet.embed_dim), front_channels(network, subnet)[-1]
        self.dim, self.norm_first = D, network.norm_first
        self.hears_padding = network.front_end == "mel"
        self.input_norm = nn.LayerNorm(C) if network.input_norm and not self.hears_padding else None
        self.projection = None if self.hears_padding else nn.Linear(C, D)
        kernel, groups = network.pos_conv_kernel, network.pos_conv_groups
        self.pos_conv = self.pos_convs = self.positions = None
        if network.positions == "conv":
            self.pos_conv = nn.Conv1d(D, D, kernel, padding=kernel // 2, groups=groups)
        elif network.positions == "stack":
            self.pos_convs = nn.ModuleList(
                nn.Conv1d(D, D, kernel, padding=kernel // 2, groups=groups) for _ in range(network.pos_conv_depth)
            )
        else:
            self.positions = nn.Parameter(torch.empty(network.max_frames, D).normal_(std=0.02))
        self.norm = _norm(network, D)
        self.entry = nn.Linear(D, subnet.embed_dim, bias=False) if _rotated(network) else None
        self.exit = nn.Linear(subnet.embed_dim, D) if _rotated(network) else None
        self.layers = nn.ModuleList(
            EncoderLayer(network, subnet.embed_dim, heads, ffn_dim)
            for heads, ffn_dim in zip(subnet.heads, subnet.ffn_dims, strict=True)
        )

    def forward(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        masked: Tensor | None = None,
        mask_embedding: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """`mask` (B, T): True for speech. `masked` (B, T): frames replaced by `mask_embedding` (D) in training.

        If the norms come first, the last hidden state is normed. The states between the layers of a rotated network are
        in the coordinates of its stream, with zeros for those that it lacks.
        """
        if self.hears_padding:
            mask = None
        keys = None if mask is None else mask[:, None, None, :]
        projected, x = self.start(features, mask, masked, mask_embedding)
        hidden = [projected]
        for layer in self.layers:
            x = layer(x, keys)
            hidden.append(F.pad(x, (0, self.dim - x.shape[-1])) if x.shape[-1] < self.dim else x)
        hidden[-1] = self.finish(x)
        return tuple(hidden)

    def finish(self, x: Tensor) -> Tensor:
        """The last hidden state from the output of the last layer."""
        if not self.norm_first:
            return x
        normed: Tensor = self.norm(x)
        return normed if self.exit is None else self.exit(normed)  # type: ignore[no-any-return]

    def start(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        masked: Tensor | None = None,
        mask_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Everything before the layers: the projected input, and the input of the first layer, each (B, T, D)."""
        projected = self._projected(features, mask, masked, mask_embedding)
        x = self._positioned(projected)
        if self.entry is not None:
            return projected, self.entry(x)
        return projected, x if self.norm_first else self.norm(x)

    def _projected(
        self, features: Tensor, mask: Tensor | None, masked: Tensor | None, mask_embedding: Tensor | None
    ) -> Tensor:
        x = features if self.input_norm is None else self.input_norm(features)
        x = x[..., : self.dim] if self.projection is None else self.projection(x)
        if masked is not None and mask_embedding is not None:
            x = torch.where(masked.unsqueeze(-1), mask_embedding.to(x.dtype), x)
        if mask is not None:
            x = x * mask.unsqueeze(-1).to(x.dtype)
        return x

    def _positioned(self, x: Tensor) -> Tensor:
        """x (B, T, D) with its positions added."""
        if self.positions is not None:
            return x + self.positions[: x.shape[1]]
        if self.pos_conv is not None:
            return x + F.gelu(self._convolved(x, self.pos_conv))
        y = x
        for conv in self.pos_convs or ():
            y = F.gelu(F.layer_norm(self._convolved(y, cast("nn.Conv1d", conv)), y.shape[-1:]))
        return x + y

    def _convolved(self, x: Tensor, conv: nn.Conv1d) -> Tensor:
        """A positional convolution (B, T, D).

        On CPUs with AMX, oneDNN's half-precision forward pass is wrong for even kernels with fewer than 16 channels
        per group (docs/log.md). An additional tap of zeros makes the kernel odd.
        """
        x, T = x.transpose(1, 2), x.shape[1]
        if _low_precision_cpu(x):
            even = F.pad(conv.weight, (0, 1)) if conv.kernel_size[0] % 2 == 0 else conv.weight
            convolved = F.conv1d(x, even, conv.bias, padding=conv.kernel_size[0] // 2, groups=conv.groups)
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
        self.front_end = FrontEnd(network, front_channels(network, subnet))
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
    if network.front_end == "mel":
        valid = torch.div(lengths, 160, rounding_mode="floor")
        for _, kernel, stride in network.conv_layers:
            valid = torch.div(valid + 2 * (kernel // 2) - kernel, stride, rounding_mode="floor") + 1
    elif rule == "fairseq":
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
