"""Supernets from the checkpoints of other packages, and back to LightHuBERT's names.

Read are Hugging Face folders of every family (`families.py`), LightHuBERT's `.pt` files and fairseq's `.pt` files of
HuBERT. Known keys that a supernet does not need (prediction labels, heads on top) are listed in its provenance; other
unexpected keys are refused. Pickles are only read with `weights_only=True`, which runs no code.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search_spaces import CheckpointError, Network, Space, SpaceError, get_space
from search_spaces.proposals import proposed_space
from supernet.families import completed, get_family
from supernet.model import HubertSupernet
from supernet.preprocessor import Preprocessor, read_preprocessor
from supernet.weights import KeyTable, instead_of, plain_tensors, read_tensors, rename_keys, shards, with_weights

__all__ = ["from_hugging_face", "from_pickle", "lighthubert_weights"]

_HEAD = "layer_pred_heads."  # LightHuBERT numbers heads by layer, from 0; ours are numbered in order of their layers
_FAIRSEQ = KeyTable({
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
    _HEAD + "{n}.weight": _HEAD + "{n}.weight",
})  # fmt: skip
_IGNORED_FAIRSEQ = re.compile(r"label_embs_concat|final_proj\.(weight|bias)")
_REQUIRED_FAIRSEQ = {"layer_norm_first": False, "extractor_mode": "default", "conv_bias": False, "pos_conv_depth": 1}


def lighthubert_weights(model: HubertSupernet) -> dict[str, Tensor]:
    """The supernet's weights under LightHuBERT's names, including the prediction heads."""
    table = _FAIRSEQ.inverse()
    weights: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        key = table.translate(name)
        if key is None:  # heads.{index}.weight
            key = f"{_HEAD}{model.head_layers[int(name.split('.')[1])] - 1}.weight"
        weights[key] = value.detach().cpu()
    return weights


# -------------------------------------------------------------------- Hugging Face


def from_hugging_face(folder: Path, config: Mapping[str, Any], space: Space | None) -> HubertSupernet:
    """The supernet from a Hugging Face folder whose parsed `config.json` is `config`.

    `space`: the subnets to search, by default `lighthubert-base` for a network of HuBERT Base's sizes, else the fine
    space of the network.
    """
    family = get_family(folder, config)
    try:
        network = family.network(config)
    except (TypeError, ValueError, OverflowError, SpaceError) as error:
        raise CheckpointError(f"{folder / 'config.json'} does not describe a {config['model_type']}: {error}") from None
    if space is not None and space.network != network:
        raise CheckpointError(f"space '{space.name}' is of another network than the one that {folder} describes")
    chosen = space or _default_space(str(config["model_type"]), network)
    weights, table = _hugging_face_weights(folder), KeyTable(family.names(network))
    prefix = next((each for each in family.prefixes if any(key.startswith(each) for key in weights)), "")
    renamed, ignored = rename_keys(folder, weights, table, family.ignored, prefix)
    learned = network.front_end == "conv" and config.get("mask_time_prob", 0.05) != 0
    provenance = {"source": f"Hugging Face {config['model_type']}", "ignored_keys": ignored}
    prepare, names = read_preprocessor(folder, network.mels), table.inverse()
    model = with_weights(
        lambda: HubertSupernet(chosen, provenance=provenance, prepare=prepare),
        completed(network, renamed, learned),
        folder,
        lambda name: names.translate(name) or name,
    )
    model.trained_for_space = False
    if network.mel:
        model.source = folder
    return model


def _hugging_face_weights(folder: Path) -> dict[str, Tensor]:
    if files := shards(folder):
        return {name: value for file in files for name, value in read_tensors(file).items()}
    if (folder / "pytorch_model.bin").is_file():
        return plain_tensors(folder, _unpickled(folder / "pytorch_model.bin"))
    raise CheckpointError(f"{folder} contains neither model.safetensors nor pytorch_model.bin")


def _default_space(kind: str, network: Network) -> Space:
    """`lighthubert-base` for a network of HuBERT Base's kind and sizes, else the fine space of the network."""
    base = get_space("lighthubert-base")
    return base if network == base.network else proposed_space(network, "fine", f"{kind}-{network.width}")


# -------------------------------------------------------------------- LightHuBERT, fairseq


def from_pickle(file: Path, space: Space | None) -> HubertSupernet:
    """The supernet from a `.pt` file of LightHuBERT or of fairseq's HuBERT; `space` replaces the one it names."""
    content = _unpickled(file)
    if isinstance(content, Mapping) and "model_weight" in content:  # as s3prl converts fairseq's files
        cfg = {"model": content.get("model_cfg"), "task": content.get("task_cfg")}
        content = {"cfg": cfg, "model": content["model_weight"]}
    if not isinstance(content, Mapping) or "model" not in content:
        raise CheckpointError(f"{file} must contain a dict with 'cfg' and 'model', as LightHuBERT and fairseq save it")
    weights = plain_tensors(file, content["model"])
    source, named = _identified(file, _settings(content))
    chosen = space or named
    renamed, ignored = rename_keys(file, weights, _FAIRSEQ, _IGNORED_FAIRSEQ)
    heads = _taken_heads(file, renamed, chosen.network.num_layers)
    renamed |= {f"heads.{i}.weight": value for i, value in enumerate(heads.values())}
    names = _FAIRSEQ.inverse()
    return with_weights(
        lambda: HubertSupernet(
            chosen,
            head_layers=tuple(layer + 1 for layer in heads),
            head_dim=len(next(iter(heads.values()))) if heads else 0,
            frame_rule="fairseq",
            provenance={"source": source, "ignored_keys": ignored},
            prepare=Preprocessor(_normalised(content)),
        ),
        renamed,
        file,
        lambda name: names.translate(name) or name,
    )


def _normalised(content: Mapping[str, object]) -> bool:
    """Whether waveforms are normalised: `cfg.task.normalize` of fairseq; LightHuBERT's files lack it, and are."""
    config = content.get("cfg")
    task = config.get("task") if isinstance(config, Mapping) else None
    normalize = task.get("normalize") if isinstance(task, Mapping) else None
    return normalize is not False


def _taken_heads(file: Path, weights: dict[str, Tensor], layers: int) -> dict[int, Tensor]:
    """The prediction heads by layer (from 0, in order), removed from `weights`."""
    names = {int(name.split(".")[1]): name for name in weights if name.startswith(_HEAD)}
    heads = {number: weights.pop(names[number]) for number in sorted(names)}
    first = next(iter(heads.values()), None)
    if first is not None and (max(heads) >= layers or first.dim() != 2):
        raise CheckpointError(
            f"{file}: layer_pred_heads must be matrices of layers 0..{layers - 1}; got layers {list(heads)} and "
            f"{tuple(first.shape)}"
        )
    return heads


def _settings(content: Mapping[str, object]) -> Mapping[str, object]:
    """The model's settings: `cfg.model`, or `args` in files from before fairseq used Hydra; empty if there are none."""
    config, args = content.get("cfg"), content.get("args")
    settings = config.get("model") if isinstance(config, Mapping) else None
    if isinstance(settings, Mapping):
        return settings
    return vars(args) if isinstance(args, argparse.Namespace) else {}


def _identified(file: Path, settings: Mapping[str, object]) -> tuple[str, Space]:
    """The source that the settings name, and its space; refused unless it is LightHuBERT or HuBERT Base."""
    for key, required in _REQUIRED_FAIRSEQ.items():
        value = settings.get(key, required)
        value = value.name if isinstance(value, Enum) else value
        if value != required:
            pre_norm = key in ("layer_norm_first", "extractor_mode")
            reason = "pre-norm (HuBERT Large) is not supported" if pre_norm else "not supported"
            raise CheckpointError(f"{file}: {key}={value!r}; {reason}, only {key}={required!r}")
    kind = settings.get("_name") or settings.get("arch")
    if kind == "hubert_pruner":
        stem = str(settings.get("pruner_supernet", "")).lower()
        for size in ("base", "small"):
            if stem.endswith(f"{size}.yaml"):
                return f"LightHuBERT {size}", get_space(f"lighthubert-{size}")
        raise CheckpointError(f"{file}: pruner_supernet must end in base.yaml or small.yaml; got {stem!r}")
    if kind == "student_hubert":
        return "LightHuBERT stage 1 (only the largest subnet is trained)", get_space("lighthubert-base")
    if kind in ("hubert", "hubert_base", None):
        return "fairseq HuBERT (only the largest subnet is trained)", get_space("lighthubert-base")
    raise CheckpointError(f"{file}: model must be hubert_pruner, student_hubert or hubert; got {kind!r}")


def _unpickled(file: Path) -> object:
    """The content of a torch pickle, if it consists of plain containers and tensors only."""
    if mishap := instead_of(file):
        raise CheckpointError(f"cannot read {file}: {mishap}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: object = torch.load(file, map_location="cpu", weights_only=True)
            return content
    except pickle.UnpicklingError as error:
        blocked = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        reason = f"it refers to {blocked[1]}" if blocked else "it is not a plain torch pickle"
        raise CheckpointError(
            f"{file} is not safe to read: {reason}; only tensors and plain containers are read, so that no code runs "
            f"(convert fairseq's own files to a Hugging Face folder first)"
        ) from None
    except Exception as error:  # truncated and foreign files fail in many ways
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"cannot read {file}: not a complete torch file ({first[:120]})") from None
