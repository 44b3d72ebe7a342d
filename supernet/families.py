"""Families of pretrained encoders in Hugging Face's format: their fields as parts of a `Network`, their names as ours.

A config is read by its fields, not by the model's name: `do_stable_layer_norm`, `feat_extract_norm`, `conv_bias` and so
on may differ within a family (wav2vec 2.0 Large exists in both norm orders).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from search_spaces import CheckpointError, Network

__all__ = ["FAMILIES", "Family", "completed", "get_family"]

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """How folders of one `model_type` are read.

    `network`: the parts from the fields of `config.json`. `names`: their weights as ours. `prefixes`: of the encoder's
    weights in models with a head or a decoder, longest first. `ignored`: weights that an encoder does not need, by
    name. `required`: fields of which one value alone can be computed.
    """

    network: Callable[[Config], Network]
    names: Callable[[Network], dict[str, str]]
    prefixes: tuple[str, ...]
    ignored: re.Pattern[str]
    required: Mapping[str, object]


def get_family(source: object, config: Config) -> Family:
    """The family of a parsed `config.json`. Raises `CheckpointError` for what cannot be computed, naming `source`."""
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise CheckpointError(f"model_type of {source} must be one of {', '.join(FAMILIES)}; got {kind!r:.60}")
    if config.get("quantization_config"):
        raise CheckpointError(f"{source} is quantised (quantization_config): give the folder of its float weights")
    family = FAMILIES[str(kind)]
    for key, required in family.required.items():
        if config.get(key, required) != required:
            raise CheckpointError(f"{key} of {source} must be {required!r}; got {config[key]!r:.60}")
    return family


# -------------------------------------------------------------------- parts


def _whole(config: Config, key: str, default: int) -> int:
    value = config.get(key, default)
    if type(value) is not int or value < 1:
        raise ValueError(f"{key} must be a positive whole number; got {value!r:.40}")
    return value


def _flag(config: Config, key: str, default: bool = False) -> bool:
    value = config.get(key, default)
    if type(value) is not bool:
        raise ValueError(f"{key} must be true or false; got {value!r:.40}")
    return value


def _head_dim(width: int, heads: int) -> int:
    if width % heads:
        raise ValueError(f"hidden_size={width} must be a multiple of num_attention_heads={heads}")
    return width // heads


def _wav2vec2(config: Config) -> Network:
    """Absent fields have transformers' defaults, which are HuBERT Base's."""
    width, heads = _whole(config, "hidden_size", 768), _whole(config, "num_attention_heads", 12)
    rows = (
        config.get("conv_dim", [512] * 7),
        config.get("conv_kernel", [10, 3, 3, 3, 3, 2, 2]),
        config.get("conv_stride", [5, 2, 2, 2, 2, 2, 2]),
    )
    stack = config["model_type"] == "data2vec-audio"
    gated = config["model_type"] == "wavlm"
    norm = "layer" if stack else config.get("feat_extract_norm", "group")
    if norm not in ("group", "layer"):
        raise ValueError(f"feat_extract_norm must be group or layer; got {norm!r:.40}")
    return Network(
        conv_layers=tuple((int(c), int(k), int(s)) for c, k, s in zip(*rows, strict=True)),
        width=width,
        heads=heads,
        ffn_dim=_whole(config, "intermediate_size", 3072),
        num_layers=_whole(config, "num_hidden_layers", 12),
        head_dim=_head_dim(width, heads),
        pos_conv_kernel=_whole(config, "conv_pos_kernel_size", 19)
        if stack
        else _whole(config, "num_conv_pos_embeddings", 128),
        pos_conv_groups=_whole(config, "num_conv_pos_embedding_groups", 16),
        conv_norm=norm,
        conv_bias=_flag(config, "conv_bias"),
        input_norm=_flag(config, "feat_proj_layer_norm", True),
        positions="stack" if stack else "conv",
        pos_conv_depth=_whole(config, "num_conv_pos_embeddings", 5) if stack else 1,
        norm_first=not stack and _flag(config, "do_stable_layer_norm"),
        relative_buckets=_whole(config, "num_buckets", 320) if gated else 0,
        relative_distance=_whole(config, "max_bucket_distance", 800) if gated else 0,
    )


def _whisper(config: Config) -> Network:
    width, heads = _whole(config, "d_model", 384), _whole(config, "encoder_attention_heads", 6)
    return Network(
        conv_layers=((width, 3, 1), (width, 3, 2)),
        width=width,
        heads=heads,
        ffn_dim=_whole(config, "encoder_ffn_dim", 1536),
        num_layers=_whole(config, "encoder_layers", 4),
        head_dim=_head_dim(width, heads),
        pos_conv_kernel=1,
        pos_conv_groups=1,
        front_end="mel",
        mels=_whole(config, "num_mel_bins", 80),
        conv_norm="none",
        conv_bias=True,
        input_norm=False,
        positions="table",
        max_frames=_whole(config, "max_source_positions", 1500),
        norm_first=True,
        key_bias=False,
    )


# -------------------------------------------------------------------- names

_LAYER = {
    **{f"attention.{x}_proj.{{p}}": f"{x}.{{p}}" for x in ("q", "k", "v", "out")},
    "attention.gru_rel_pos_const": "relative.const",
    "attention.gru_rel_pos_linear.{p}": "relative.gate.{p}",
    "attention.rel_attn_embed.weight": "relative.weight",
    "layer_norm.{p}": "attention_norm.{p}",
    "feed_forward.intermediate_dense.{p}": "fc1.{p}",
    "feed_forward.output_dense.{p}": "fc2.{p}",
    "final_layer_norm.{p}": "final_norm.{p}",
}


def _wav2vec2_names(network: Network) -> dict[str, str]:
    """Of one weight in two spellings, the last is the one that transformers writes now."""
    stored = "encoder.pos_conv_embed.conv."
    norms = {"feature_extractor.conv_layers.{n}.layer_norm.{p}": "front_end.norms.{n}.{p}"}
    if network.conv_norm == "group":
        norms = {"feature_extractor.conv_layers.0.layer_norm.{p}": "front_end.norm.{p}"}
    return {
        "masked_spec_embed": "mask_embedding",
        "feature_projection.layer_norm.{p}": "encoder.input_norm.{p}",
        "feature_projection.projection.{p}": "encoder.projection.{p}",
        "feature_extractor.conv_layers.{n}.conv.{p}": "front_end.convs.{n}.{p}",
        **norms,
        f"{stored}bias": "encoder.pos_conv.bias",
        f"{stored}weight_g": "encoder.pos_conv.weight_g",
        f"{stored}weight_v": "encoder.pos_conv.weight_v",
        f"{stored}parametrizations.weight.original0": "encoder.pos_conv.weight_g",
        f"{stored}parametrizations.weight.original1": "encoder.pos_conv.weight_v",
        "encoder.pos_conv_embed.layers.{n}.conv.{p}": "encoder.pos_convs.{n}.{p}",
        "encoder.layer_norm.{p}": "encoder.norm.{p}",
        **{f"encoder.layers.{{n}}.{theirs}": f"encoder.layers.{{n}}.{ours}" for theirs, ours in _LAYER.items()},
    }


def _whisper_names(network: Network) -> dict[str, str]:
    return dict(_WHISPER_NAMES)


_WHISPER_NAMES = {
    "conv1.{p}": "front_end.convs.0.{p}",
    "conv2.{p}": "front_end.convs.1.{p}",
    "embed_positions.weight": "encoder.positions",
    "layer_norm.{p}": "encoder.norm.{p}",
    **{f"layers.{{n}}.self_attn.{x}_proj.{{p}}": f"encoder.layers.{{n}}.{x}.{{p}}" for x in ("q", "k", "v", "out")},
    "layers.{n}.self_attn_layer_norm.{p}": "encoder.layers.{n}.attention_norm.{p}",
    "layers.{n}.fc1.{p}": "encoder.layers.{n}.fc1.{p}",
    "layers.{n}.fc2.{p}": "encoder.layers.{n}.fc2.{p}",
    "layers.{n}.final_layer_norm.{p}": "encoder.layers.{n}.final_norm.{p}",
}


# -------------------------------------------------------------------- the table

_HEADS = re.compile(
    r"lm_head\..*|projector\..*|classifier\..*|layer_weights|quantizer\..*|project_(q|hid)\..*|tdnn\..*|objective\..*|"
    r"final_proj\..*|speaker_proj\..*|ctc_proj\..*|label_embeddings_concat|layer_norm_for_extract\..*"
)
_DECODER = re.compile(r"(model\.)?decoder\..*|proj_out\..*|classifier\..*|projector\..*|layer_weights")
_REQUIRED = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "conv_pos_batch_norm": False,
    "layer_norm_eps": 1e-5,
    "add_adapter": False,
    "adapter_attn_dim": None,
}


def _like_wav2vec2(prefix: str) -> Family:
    return Family(_wav2vec2, _wav2vec2_names, (prefix,), _HEADS, _REQUIRED)


FAMILIES: Mapping[str, Family] = {
    "hubert": _like_wav2vec2("hubert."),
    "wav2vec2": _like_wav2vec2("wav2vec2."),
    "wavlm": _like_wav2vec2("wavlm."),
    "data2vec-audio": _like_wav2vec2("data2vec_audio."),
    "unispeech-sat": _like_wav2vec2("unispeech_sat."),
    "unispeech": _like_wav2vec2("unispeech."),
    "whisper": Family(
        _whisper,
        _whisper_names,
        ("model.encoder.", "encoder."),
        _DECODER,
        {"activation_function": "gelu", "scale_embedding": False},
    ),
}


def completed(network: Network, weights: dict[str, Tensor], learned_mask: bool) -> dict[str, Tensor]:
    """`weights` under our names with what their files do not store: a mask embedding where none was learned, and, for
    relative positions, the copy of each layer (the file has one, of layer 0) and the blocks that the gates read.
    """
    result = dict(weights)
    if "mask_embedding" not in result and not learned_mask:
        result["mask_embedding"] = torch.zeros(network.width)
    if not network.relative_buckets:
        return result
    shared = result.get("encoder.layers.0.relative.weight")
    for layer in range(network.num_layers):
        prefix = f"encoder.layers.{layer}.relative."
        if shared is not None:
            result[f"{prefix}weight"] = shared.clone()
        if (const := result.get(f"{prefix}const")) is not None:
            result[f"{prefix}const"] = const.flatten()  # stored as (1, H, 1, 1)
        result[f"{prefix}blocks"] = torch.arange(network.heads)
    return result
