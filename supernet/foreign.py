"""Checkpoints of others: Hugging Face's HubertModel folders, LightHuBERT's `.pt`, fairseq's HuBERT `.pt`.

The few keys that are known and not needed (prediction labels of the teacher's own training) are listed in the
supernet's provenance. Pickles are only ever read with `weights_only=True`, which runs no code from them.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search_spaces import CheckpointError, Space, ffn_ratio, get_space, space_from_dict
from search_spaces.types import JsonMapping, JsonObject
from supernet.model import HubertSupernet
from supernet.weights import fill, pattern_of, read_tensors, renamed, tensors_of

__all__ = ["from_hugging_face", "from_pickle", "lighthubert_weights"]

# Keys of other people's checkpoints -> ours. `{n}` stands for a number that is kept.
_FAIRSEQ = {
    "mask_emb": "mask_embedding",
    "layer_norm.{p}": "encoder.input_norm.{p}",
    "post_extract_proj.{p}": "encoder.projection.{p}",
    "feature_extractor.conv_layers.{n}.0.weight": "front_end.convs.{n}.weight",
    "feature_extractor.conv_layers.0.2.{p}": "front_end.norm.{p}",
    "encoder.pos_conv.0.bias": "encoder.pos_conv.bias",
    "encoder.pos_conv.0.weight_g": "encoder.pos_conv.weight_g",
    "encoder.pos_conv.0.weight_v": "encoder.pos_conv.weight_v",
    "encoder.layer_norm.{p}": "encoder.norm.{p}",
    **{
        f"encoder.layers.{{n}}.self_attn.{x}_proj.{{p}}": f"encoder.layers.{{n}}.{x}.{{p}}"
        for x in ("q", "k", "v", "out")
    },
    "encoder.layers.{n}.self_attn_layer_norm.{p}": "encoder.layers.{n}.attention_norm.{p}",
    "encoder.layers.{n}.fc1.{p}": "encoder.layers.{n}.fc1.{p}",
    "encoder.layers.{n}.fc2.{p}": "encoder.layers.{n}.fc2.{p}",
    "encoder.layers.{n}.final_layer_norm.{p}": "encoder.layers.{n}.final_norm.{p}",
    "layer_pred_heads.{n}.weight": "head {n}",
}
_HUGGING_FACE = {
    "masked_spec_embed": "mask_embedding",
    "feature_projection.layer_norm.{p}": "encoder.input_norm.{p}",
    "feature_projection.projection.{p}": "encoder.projection.{p}",
    "feature_extractor.conv_layers.{n}.conv.weight": "front_end.convs.{n}.weight",
    "feature_extractor.conv_layers.0.layer_norm.{p}": "front_end.norm.{p}",
    "encoder.pos_conv_embed.conv.bias": "encoder.pos_conv.bias",
    "encoder.pos_conv_embed.conv.weight_g": "encoder.pos_conv.weight_g",
    "encoder.pos_conv_embed.conv.weight_v": "encoder.pos_conv.weight_v",
    "encoder.pos_conv_embed.conv.parametrizations.weight.original0": "encoder.pos_conv.weight_g",
    "encoder.pos_conv_embed.conv.parametrizations.weight.original1": "encoder.pos_conv.weight_v",
    "encoder.layer_norm.{p}": "encoder.norm.{p}",
    **{
        f"encoder.layers.{{n}}.attention.{x}_proj.{{p}}": f"encoder.layers.{{n}}.{x}.{{p}}"
        for x in ("q", "k", "v", "out")
    },
    "encoder.layers.{n}.layer_norm.{p}": "encoder.layers.{n}.attention_norm.{p}",
    "encoder.layers.{n}.feed_forward.intermediate_dense.{p}": "encoder.layers.{n}.fc1.{p}",
    "encoder.layers.{n}.feed_forward.output_dense.{p}": "encoder.layers.{n}.fc2.{p}",
    "encoder.layers.{n}.final_layer_norm.{p}": "encoder.layers.{n}.final_norm.{p}",
}
_IGNORED = {
    "fairseq": re.compile(r"label_embs_concat|final_proj\.(weight|bias)"),
    "hugging face": re.compile(
        r"lm_head\.(weight|bias)|projector\.(weight|bias)|classifier\.(weight|bias)|layer_weights|"
        r"quantizer\..*|project_(q|hid)\.(weight|bias)"  # of wav2vec 2.0's own training
    ),
}


def lighthubert_weights(model: HubertSupernet) -> dict[str, Tensor]:
    """The supernet's weights under LightHuBERT's names, prediction heads included."""
    patterns = [(pattern_of(name), key) for key, name in _FAIRSEQ.items()]
    weights = {}
    for name, value in model.state_dict().items():
        match, key = next(((m, key) for p, key in patterns if (m := p.fullmatch(name))), (None, ""))
        if match is None:
            key = "layer_pred_heads.{n}.weight".format(n=model.head_layers[int(name.split(".")[1])] - 1)
        else:
            key = key.format(**match.groupdict())
        weights[key] = value.detach().cpu()
    return weights


# -------------------------------------------------------------------- Hugging Face


def from_hugging_face(folder: Path, config: JsonObject, space: Space | None) -> HubertSupernet:
    kind = config["model_type"]
    if kind not in ("hubert", "wav2vec2"):
        why = {"wavlm": ": its gated relative positions have no place here", "whisper": ": it can only be a teacher"}
        raise CheckpointError(
            f"model_type of {folder} must be hubert or wav2vec2 to be searched; got {kind!r}{why.get(kind, '')}"
        )
    if config.get("do_stable_layer_norm") or config.get("feat_extract_norm", "group") != "group":
        raise CheckpointError(
            f"{folder} is a pre-norm model (HuBERT Large): only post-norm ones (HuBERT Base, LightHuBERT) are supported"
        )
    for key, needed in (
        ("conv_bias", False),
        ("hidden_act", "gelu"),
        ("feat_extract_activation", "gelu"),
        ("conv_pos_batch_norm", False),
        ("feat_proj_layer_norm", True),
        ("layer_norm_eps", 1e-5),
    ):
        if config.get(key, needed) != needed:
            raise CheckpointError(f"{key} of {folder} must be {needed!r}; got {config[key]!r}")
    if (folder / "model.safetensors").is_file():
        weights = read_tensors(folder / "model.safetensors")
    elif (folder / "pytorch_model.bin").is_file():
        weights = tensors_of(folder, _unpickled(folder / "pytorch_model.bin"))
    else:
        raise CheckpointError(f"{folder} holds neither model.safetensors nor pytorch_model.bin")
    weights, _, ignored = renamed(folder, weights, _HUGGING_FACE, _IGNORED["hugging face"], f"{kind}.")
    result = space or _hubert_space(folder, config)
    if "mask_embedding" not in weights and config.get("mask_time_prob", 0.05) == 0:
        weights["mask_embedding"] = torch.zeros(result.network.width)
    model = HubertSupernet(result, provenance={"source": f"Hugging Face {kind}", "ignored_keys": ignored})
    fill(folder, model, weights)
    return model


def _hubert_space(folder: Path, config: JsonObject) -> Space:
    """`lighthubert-base` where the network is HuBERT Base's, else a space of the whole network alone."""
    try:
        width, heads = int(config.get("hidden_size", 768)), int(config.get("num_attention_heads", 12))
        ffn_dim, layers = int(config.get("intermediate_size", 3072)), int(config.get("num_hidden_layers", 12))
        rows = [
            config.get("conv_dim", [512] * 7),
            config.get("conv_kernel", [10, 3, 3, 3, 3, 2, 2]),
            config.get("conv_stride", [5, 2, 2, 2, 2, 2, 2]),
        ]
        network = {
            "conv_layers": [[int(n) for n in row] for row in zip(*rows, strict=True)],
            "width": width,
            "heads": heads,
            "ffn_dim": ffn_dim,
            "num_layers": layers,
            "head_dim": width // heads,
            "pos_conv_kernel": int(config.get("num_conv_pos_embeddings", 128)),
            "pos_conv_groups": int(config.get("num_conv_pos_embedding_groups", 16)),
        }
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{folder / 'config.json'} does not describe a HuBERT: {error}") from None
    base = get_space("lighthubert-base")
    if network == base.network.to_dict():
        return base
    return space_from_dict(
        {
            "name": f"hubert-{width}",
            "embed_dims": [width],
            "heads": [heads],
            "ffn_ratios": [ffn_ratio(ffn_dim, width)],
            "depth_map": {str(layers): list(range(1, layers + 1))},
            "network": network,
        }
    )


# -------------------------------------------------------------------- pickles


def from_pickle(file: Path, space: Space | None) -> HubertSupernet:
    content = _unpickled(file)
    if not isinstance(content, Mapping) or "model" not in content:
        raise CheckpointError(
            f"{file} must hold a dict with 'cfg' and 'model', as LightHuBERT and fairseq save; it does not"
        )
    weights = tensors_of(file, content["model"])
    config = content.get("cfg")
    settings = config.get("model") if isinstance(config, Mapping) else None
    if not isinstance(settings, Mapping):
        args = content.get("args")
        settings = vars(args) if isinstance(args, argparse.Namespace) else {}
    source, result = _identified(file, settings, space)
    weights, heads, ignored = renamed(file, weights, _FAIRSEQ, _IGNORED["fairseq"])
    numbers = sorted(heads)
    if numbers and (numbers[-1] >= result.network.num_layers or heads[numbers[0]].dim() != 2):
        raise CheckpointError(
            f"{file}: layer_pred_heads must be matrices of layers 0..{result.network.num_layers - 1}; got layers "
            f"{numbers} and {tuple(heads[numbers[0]].shape)}"
        )
    head_dim = len(heads[numbers[0]]) if numbers else 0
    weights |= {f"heads.{i}.weight": heads[n] for i, n in enumerate(numbers)}
    provenance = {"source": source, "ignored_keys": ignored}
    model = HubertSupernet(result, tuple(n + 1 for n in numbers), head_dim, "fairseq", provenance)
    fill(file, model, weights)
    return model


def _identified(file: Path, settings: JsonMapping, space: Space | None) -> tuple[str, Space]:
    """What a `.pt` says it is, and its space; refused where its settings are not LightHuBERT's or HuBERT Base's."""
    for key, needed in (
        ("layer_norm_first", False),
        ("extractor_mode", "default"),
        ("conv_bias", False),
        ("pos_conv_depth", 1),
    ):
        value = settings.get(key, needed)
        value = getattr(value, "name", value)
        if value != needed:
            message = (
                "pre-norm (HuBERT Large) is not supported"
                if key in ("layer_norm_first", "extractor_mode")
                else "not supported"
            )
            raise CheckpointError(f"{file}: {key}={value!r}; {message}, only {key}={needed!r}")
    kind = settings.get("_name") or settings.get("arch")
    if kind == "hubert_pruner":
        stem = str(settings.get("pruner_supernet", "")).lower()
        for size in ("base", "small"):
            if stem.endswith(f"{size}.yaml"):
                return f"LightHuBERT {size}", space or get_space(f"lighthubert-{size}")
        raise CheckpointError(f"{file}: pruner_supernet must end in base.yaml or small.yaml; got {stem!r}")
    if kind == "student_hubert":
        return "LightHuBERT stage 1 (only the largest subnet is trained)", space or get_space("lighthubert-base")
    if kind in ("hubert", "hubert_base", None):
        return "fairseq HuBERT (only the largest subnet is trained)", space or get_space("lighthubert-base")
    raise CheckpointError(f"{file}: model must be hubert_pruner, student_hubert or hubert; got {kind!r}")


def _unpickled(file: Path) -> Any:
    """The content of a torch pickle, if it holds plain containers and tensors only."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        reason = f"it refers to {blocked[1]}" if blocked else "it is not a plain torch pickle"
        raise CheckpointError(
            f"{file} is not safe to read: {reason}; only tensors and plain containers are, so that no code runs "
            f"(fairseq's own files: convert them to a Hugging Face folder first)"
        ) from None
    except Exception as error:  # a torn or foreign file fails in many ways
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"cannot read {file}: not a whole torch file ({first[:120]})") from None
