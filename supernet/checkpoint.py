"""Supernets on disk: our folder, LightHuBERT's `.pt`, a Hugging Face HubertModel folder, fairseq's HuBERT `.pt`.

Every key of a file is accounted for: missing and unexpected ones are named and refused, and the few that are known
and not needed (prediction labels of the teacher's own training) are listed in the supernet's provenance. Pickles
are only ever read with `weights_only=True`, which runs no code from them.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from search_spaces import CheckpointError, NasError, Space, SpaceError, ffn_ratio, get_space, space_from_dict
from supernet.calibration import load_calibration
from supernet.model import HubertSupernet

__all__ = [
    "checked",
    "lighthubert_weights",
    "load_supernet",
    "read_config",
    "read_tensors",
    "save_supernet",
    "shipped",
    "write_folder",
]

FORMAT = "lighthubert-nas supernet 1"
_SHIPPED = Path(__file__).parent / "pretrained"

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


# -------------------------------------------------------------------- public


def shipped() -> list[str]:
    """Names of the supernets that come with the package."""
    return sorted(folder.name for folder in _SHIPPED.glob("*") if (folder / "config.json").is_file())


def load_supernet(path_or_name: Path | str, device: str = "cpu", space: Space | None = None) -> HubertSupernet:
    """The supernet of a shipped name or a checkpoint, in float32 and eval mode on `device`.

    `space`: what to search in a Hugging Face or fairseq HuBERT, whose weights are stored sizes only; by default
    `lighthubert-base` where the network is HuBERT Base's, else the largest subnet alone.
    Raises `CheckpointError` in one line for whatever cannot be read, safely and wholly.
    """
    name = str(path_or_name)
    path = _SHIPPED / name if name in shipped() else Path(path_or_name)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that are too long
        raise CheckpointError(
            f"no supernet '{name[:200]}': neither a file or folder nor a shipped name "
            f"({', '.join(shipped()) or 'none'})"
        )
    try:
        model = _from_folder(path, space) if path.is_dir() else _from_pickle(path, space)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    except SpaceError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return model.to(device).eval()


def save_supernet(model: HubertSupernet, folder: Path | str, dtype: torch.dtype = torch.float32) -> Path:
    """Writes `model.safetensors` and `config.json` (space, heads, provenance) into `folder`."""
    config = {
        "format": FORMAT,
        "space": model.space.to_dict(),
        "head_layers": list(model.head_layers),
        "head_dim": model.head_dim,
        "frame_rule": model.frame_rule,
        "provenance": model.provenance,
    }
    return write_folder(folder, model.state_dict(), config, dtype)


def write_folder(
    folder: Path | str, weights: Mapping[str, Tensor], config: Mapping[str, Any], dtype: torch.dtype
) -> Path:
    """Writes `model.safetensors` and `config.json`, each complete or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plain = {name: value.detach().to("cpu", dtype).contiguous() for name, value in weights.items()}
    partial, text = folder / ".model.safetensors.partial", folder / ".config.json.partial"
    try:
        save_file(plain, partial, metadata={"format": "pt"})
        text.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / "model.safetensors")
        text.replace(folder / "config.json")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {folder}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
        text.unlink(missing_ok=True)
    return folder


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, as float32."""
    try:
        return {name: _plain(file, name, value) for name, value in load_file(file).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {file}: {error}") from None


def checked(what: Path | str, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights`, if they have exactly the names and shapes of `expected` and only finite numbers."""
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    for kind, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            raise CheckpointError(f"{what} has {len(names)} {kind} weights: {_some(names)}")
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{what}: {name} must have the shape {tuple(expected[name].shape)}; got {tuple(value.shape)}"
            )
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{what}: {name} holds NaN or infinite numbers")
    return dict(weights)


def read_config(file: Path, form: str) -> dict[str, Any]:
    """The JSON object in a `config.json` of ours."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {file}: {error}") from None
    if not isinstance(config, dict) or config.get("format") != form:
        found = config.get("format") if isinstance(config, dict) else None
        raise CheckpointError(f"{file} must have the format {form!r}; got {found!r}")
    return config


def lighthubert_weights(model: HubertSupernet) -> dict[str, Tensor]:
    """The supernet's weights under LightHuBERT's names, prediction heads included."""
    patterns = [
        (re.compile(re.escape(name).replace(r"\{n\}", r"(?P<n>\d+)").replace(r"\{p\}", "(?P<p>weight|bias)")), key)
        for key, name in _FAIRSEQ.items()
    ]
    weights = {}
    for name, value in model.state_dict().items():
        match, key = next(((m, key) for p, key in patterns if (m := p.fullmatch(name))), (None, ""))
        if match is None:
            key = "layer_pred_heads.{n}.weight".format(n=model.head_layers[int(name.split(".")[1])] - 1)
        else:
            key = key.format(**match.groupdict())
        weights[key] = value.detach().cpu()
    return weights


# -------------------------------------------------------------------- folders


def _from_folder(folder: Path, space: Space | None) -> HubertSupernet:
    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(f"{folder} holds no config.json: neither our supernet nor a Hugging Face model")
    try:
        fields = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{config} is not JSON: {error}") from None
    if isinstance(fields, dict) and "model_type" in fields:
        return _from_hugging_face(folder, fields, space)
    return _from_ours(folder, read_config(config, FORMAT), space)


def _from_ours(folder: Path, config: dict[str, Any], space: Space | None) -> HubertSupernet:
    try:
        heads, head_dim = tuple(int(n) for n in config["head_layers"]), int(config["head_dim"])
        stored = space_from_dict(config["space"])
        known = range(1, stored.network.num_layers + 1)
        if head_dim < bool(heads) or list(heads) != sorted(set(heads)) or any(n not in known for n in heads):
            raise CheckpointError(
                f"head_layers of {folder} must be rising layers of 1..{known[-1]} with a head_dim; "
                f"got {list(heads)} and {head_dim}"
            )
        model = HubertSupernet(stored, heads, head_dim, config["frame_rule"], config["provenance"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, NasError):
            raise
        raise CheckpointError(f"{folder / 'config.json'} lacks or misspells {error}") from None
    _fill(folder / "model.safetensors", model, read_tensors(folder / "model.safetensors"))
    calibration = folder / "calibration.safetensors"
    if calibration.exists():
        model.calibration = load_calibration(calibration)
    return _with_space(model, space)


def _from_hugging_face(folder: Path, config: dict[str, Any], space: Space | None) -> HubertSupernet:
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
        weights = _tensors(folder, _unpickled(folder / "pytorch_model.bin"))
    else:
        raise CheckpointError(f"{folder} holds neither model.safetensors nor pytorch_model.bin")
    renamed, _, ignored = _renamed(folder, weights, _HUGGING_FACE, _IGNORED["hugging face"], f"{kind}.")
    found = space or _hubert_space(folder, config)
    if "mask_embedding" not in renamed and config.get("mask_time_prob", 0.05) == 0:
        renamed["mask_embedding"] = torch.zeros(found.network.width)
    model = HubertSupernet(found, provenance={"source": f"Hugging Face {kind}", "ignored_keys": ignored})
    _fill(folder, model, renamed)
    return model


def _hubert_space(folder: Path, config: dict[str, Any]) -> Space:
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


def _from_pickle(file: Path, space: Space | None) -> HubertSupernet:
    content = _unpickled(file)
    if not isinstance(content, Mapping) or "model" not in content:
        raise CheckpointError(
            f"{file} must hold a dict with 'cfg' and 'model', as LightHuBERT and fairseq save; it does not"
        )
    weights = _tensors(file, content["model"])
    config = content.get("cfg")
    settings = config.get("model") if isinstance(config, Mapping) else None
    if not isinstance(settings, Mapping):
        args = content.get("args")
        settings = vars(args) if isinstance(args, argparse.Namespace) else {}
    source, found = _identified(file, settings, space)
    renamed, heads, ignored = _renamed(file, weights, _FAIRSEQ, _IGNORED["fairseq"])
    numbers = sorted(heads)
    if numbers and (numbers[-1] >= found.network.num_layers or heads[numbers[0]].dim() != 2):
        raise CheckpointError(
            f"{file}: layer_pred_heads must be matrices of layers 0..{found.network.num_layers - 1}; got layers "
            f"{numbers} and {tuple(heads[numbers[0]].shape)}"
        )
    head_dim = len(heads[numbers[0]]) if numbers else 0
    renamed |= {f"heads.{i}.weight": heads[n] for i, n in enumerate(numbers)}
    provenance = {"source": source, "ignored_keys": ignored}
    model = HubertSupernet(found, tuple(n + 1 for n in numbers), head_dim, "fairseq", provenance)
    _fill(file, model, renamed)
    return model


def _identified(file: Path, settings: Mapping[str, Any], space: Space | None) -> tuple[str, Space]:
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
            said = (
                "pre-norm (HuBERT Large) is not supported"
                if key in ("layer_norm_first", "extractor_mode")
                else "not supported"
            )
            raise CheckpointError(f"{file}: {key}={value!r}; {said}, only {key}={needed!r}")
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


def _tensors(file: Path, content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{file} holds no weights")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{file}: {name!r} must be a tensor; got {type(value).__name__}")
    return {name: _plain(file, name, value) for name, value in content.items()}


def _plain(file: Path, name: str, value: Tensor) -> Tensor:
    """`value` as float32; refused where it is sparse, complex, quantized, without data, or larger than its data."""
    odd = value.layout is not torch.strided or value.is_complex() or value.is_quantized or value.is_meta
    if odd or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(
            f"{file}: {name} must be a plain tensor of real numbers; got {value.dtype}, {value.layout}, "
            f"{tuple(value.shape)} on {value.device.type}"
        )
    return value.float()


# -------------------------------------------------------------------- keys


def _renamed(
    file: Path, weights: Mapping[str, Tensor], table: Mapping[str, str], ignored: re.Pattern[str], prefix: str = ""
) -> tuple[dict[str, Tensor], dict[int, Tensor], list[str]]:
    """Weights under our names, prediction heads by layer (0-based), and the known keys that are not needed."""
    patterns = [
        (re.compile(re.escape(key).replace(r"\{n\}", r"(?P<n>\d+)").replace(r"\{p\}", "(?P<p>weight|bias)")), name)
        for key, name in table.items()
    ]
    renamed: dict[str, Tensor] = {}
    heads: dict[int, Tensor] = {}
    skipped: list[str] = []
    unexpected: list[str] = []
    sources: dict[str, str] = {}
    for key, value in weights.items():
        inner = key.removeprefix(prefix)
        match, name = next(((m, name) for p, name in patterns if (m := p.fullmatch(inner))), (None, ""))
        target = name.format(**match.groupdict()) if match else key
        if target in sources:
            raise CheckpointError(f"{file} has one weight under two names: {sources[target]} and {key}")
        sources[target] = key
        if match is None:
            (skipped if ignored.fullmatch(key) else unexpected).append(key)
        elif name == "head {n}":
            heads[int(match["n"])] = value
        else:
            renamed[target] = value
    if unexpected:
        raise CheckpointError(f"{file} has {len(unexpected)} unexpected weights: {_some(unexpected)}")
    return renamed, heads, sorted(skipped)


def _fill(file: Path, model: HubertSupernet, weights: dict[str, Tensor]) -> None:
    model.load_state_dict(checked(file, weights, model.state_dict()), strict=True)


def _with_space(model: HubertSupernet, space: Space | None) -> HubertSupernet:
    if space is not None:
        model.use_space(space)
    return model


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
