"""The stored network that subnets are slices of, described by its parts: no family has a class of its own.

front end     conv: convolutions on the waveform (wav2vec 2.0, HuBERT, WavLM, data2vec), with group or layer norm
              mel:  Whisper's log-mel spectrogram and two convolutions
positions     conv:  one weight-normed convolution;  stack: data2vec's convolutions;  table: a vector for each frame
attention     plain, or with WavLM's gated relative position bias (`relative_buckets`)
norm order    after each half of a layer, or before it and once at the end (`norm_first`)
rotated       the layers' residual stream has other coordinates than their surroundings (`supernet.rotation`)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from search_spaces.errors import SpaceError
from search_spaces.types import JsonObject

__all__ = ["MAX_LAYERS", "MAX_SIZE", "MEL_HOP", "MEL_WINDOW", "Network", "RATE"]

ConvLayer = tuple[int, int, int]

MAX_LAYERS = 1_000  # far beyond any network, so that a broken file takes neither hours nor all memory
MAX_SIZE = 1_000_000
MEL_WINDOW, MEL_HOP = 400, 160  # samples of Whisper's spectrogram
RATE = 16_000  # samples a second

_WORDS = {
    "front_end": ("conv", "mel"),
    "conv_norm": ("group", "layer", "none"),
    "positions": ("conv", "stack", "table"),
}
_FLAGS = ("conv_bias", "input_norm", "norm_first", "key_bias", "rotated")
_MAY_BE_ZERO = ("mels", "relative_buckets", "relative_distance", "max_frames")


@dataclass(frozen=True)
class Network:
    """The stored sizes and parts. The defaults are HuBERT Base's kind.

    `conv_layers` holds (channels, kernel, stride) of the front end; `width`, `heads` and `ffn_dim` are the stored sizes
    of each Transformer layer. FFN units are stored in blocks of `width` (see `supernet.slicing`), so `ffn_dim` is
    usually a multiple of it.
    `conv_norm`: of the first convolution ("group"), or of each ("layer"). `input_norm`: whether the features are
    normalised before the projection. `mels`: bins of a mel front end, whose convolutions keep their inputs' length and
    whose last one is as wide as the layers, so that there is no projection. `max_frames`: of a table of positions.
    `pos_conv_depth`: of a stack. `relative_buckets`, `relative_distance`: of WavLM's position bias. `key_bias`: whether
    the keys of attention have a bias. `rotated`: between the layers are the embed dims that vary most, in order; before
    and after them, all `width` dims.
    """

    conv_layers: tuple[ConvLayer, ...]
    width: int
    heads: int
    ffn_dim: int
    num_layers: int = 12
    head_dim: int = 64
    pos_conv_kernel: int = 128
    pos_conv_groups: int = 16
    front_end: str = "conv"
    mels: int = 0
    conv_norm: str = "group"
    conv_bias: bool = False
    input_norm: bool = True
    positions: str = "conv"
    pos_conv_depth: int = 1
    max_frames: int = 0
    norm_first: bool = False
    relative_buckets: int = 0
    relative_distance: int = 0
    key_bias: bool = True
    rotated: bool = False

    def __post_init__(self) -> None:
        self._check_convolutions()
        for name, allowed in _WORDS.items():
            if getattr(self, name) not in allowed:
                raise SpaceError(f"network.{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r:.40}")
        for name in _FLAGS:
            if type(getattr(self, name)) is not bool:
                raise SpaceError(f"network.{name} must be true or false; got {getattr(self, name)!r:.40}")
        for field in fields(self):
            if field.name in ("conv_layers", *_WORDS, *_FLAGS):
                continue
            value = getattr(self, field.name)
            least = 0 if field.name in _MAY_BE_ZERO else 1
            most = MAX_LAYERS if field.name in ("num_layers", "pos_conv_depth") else MAX_SIZE
            if type(value) is not int or not least <= value <= most:
                raise SpaceError(
                    f"network.{field.name} must be a whole number in {least}..{most:,}; got {value!r:.100}"
                )
        self._check_parts()

    def _check_convolutions(self) -> None:
        layers = tuple(tuple(layer) for layer in self.conv_layers)
        sizes = [size for layer in layers for size in layer]
        whole = all(len(layer) == 3 for layer in layers) and all(type(size) is int for size in sizes)
        if not 1 <= len(layers) <= MAX_LAYERS or not whole or not 1 <= min(sizes) <= max(sizes) <= MAX_SIZE:
            raise SpaceError(f"conv_layers must be a list of [channels, kernel, stride]; got {self.conv_layers!r:.200}")
        object.__setattr__(self, "conv_layers", layers)

    def _check_parts(self) -> None:
        mel = self.front_end == "mel"
        for wrong, rule in (
            (mel != (self.mels > 0), "mels must be given for front_end 'mel', and only for it"),
            (mel and self.conv_channels != self.width, f"the last of a mel's conv_layers must have width={self.width}"),
            (mel and self.conv_norm != "none", "conv_norm of a mel front end must be 'none'"),
            ((self.positions == "table") != (self.max_frames > 0), "max_frames must be given for a table, and only so"),
            ((self.relative_buckets > 0) != (self.relative_distance > 0), "relative_* must be given together"),
            (self.relative_buckets % 4 > 0, "relative_buckets must be a multiple of 4"),
            (self.relative_buckets > 0 and self.relative_distance <= self.relative_buckets // 4,
             "relative_distance must be over relative_buckets / 4"),
            (self.rotated and (not self.norm_first or self.relative_buckets > 0),
             "only layers with norms first, and without relative positions, can be rotated"),
        ):  # fmt: skip
            if wrong:
                raise SpaceError(f"network: {rule}")

    @property
    def mel(self) -> bool:
        """Whether the front end begins with a mel spectrogram. Such networks hear padding as silence."""
        return self.front_end == "mel"

    def outer(self, embed_dim: int) -> int:
        """Embed dims before and after the layers of a subnet that has `embed_dim` between them."""
        return self.width if self.rotated else embed_dim

    @property
    def conv_channels(self) -> int:
        """Channels that the whole front end passes on."""
        return self.conv_layers[-1][0]

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each convolution."""
        return tuple(channels for channels, _, _ in self.conv_layers)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(stride for _, _, stride in self.conv_layers) * (MEL_HOP if self.mel else 1)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame depends on: the length of the shortest recording that has a frame."""
        if self.mel:
            return MEL_WINDOW
        field_, jump = 1, 1
        for _, kernel, stride in self.conv_layers:
            field_ += (kernel - 1) * jump
            jump *= stride
        return field_

    @property
    def max_samples(self) -> int | None:
        """The longest recording, if the positions end somewhere."""
        return self.max_frames * self.hop if self.max_frames else None

    def heard_samples(self, samples: int, window: float = 0.0) -> int:
        """Of a recording with the silence that a network which hears padding (mel) needs after it.

        Up to a whole second and one more, and up to `window` seconds at least, within the longest recording.
        """
        if not self.mel:
            return samples
        whole = max(samples + (-samples) % RATE + RATE, round(window * RATE))
        return max(samples, min(whole, self.max_samples or whole))

    def frames(self, samples: int) -> int:
        """Frames T of audio with S `samples` (0 if it is too short)."""
        return self.lengths(samples)[-1]

    def lengths(self, samples: int) -> list[int]:
        """The length of each convolution's output, of the spectrogram first if there is one; 0 where too short."""
        if self.mel:
            lengths = [samples // MEL_HOP if samples >= MEL_WINDOW else 0]
            for _, kernel, stride in self.conv_layers:
                before = lengths[-1] + 2 * (kernel // 2)
                lengths.append((before - kernel) // stride + 1 if lengths[-1] else 0)
            return lengths
        lengths = []
        for _, kernel, stride in self.conv_layers:
            samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
            lengths.append(samples)
        return lengths

    def to_dict(self) -> JsonObject:
        """Plain containers, as the `network` table of a TOML space file; parts as in HuBERT Base are left out."""
        return {
            "conv_layers": [list(layer) for layer in self.conv_layers],
            **{
                field.name: getattr(self, field.name)
                for field in fields(self)[1:]
                if field.name in _ALWAYS or getattr(self, field.name) != field.default
            },
        }


_ALWAYS = ("width", "heads", "ffn_dim", "num_layers", "head_dim", "pos_conv_kernel", "pos_conv_groups")
