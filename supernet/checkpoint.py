"""Supernets on disk: our own folders, and `load_supernet` for these and for the checkpoints of others."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from search_spaces import CheckpointError, NasError, Space, SpaceError, space_from_dict
from search_spaces.files import replacing, write_json
from search_spaces.types import JsonMapping, JsonObject
from supernet.calibration import load_calibration
from supernet.foreign import from_hugging_face, from_pickle
from supernet.model import HubertSupernet
from supernet.weights import fill, read_tensors

__all__ = [
    "load_supernet",
    "read_config",
    "save_supernet",
    "shipped",
    "write_folder",
]

FORMAT = "lighthubert-nas supernet 1"
_SHIPPED = Path(__file__).parent / "pretrained"

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
        model = _from_folder(path, space) if path.is_dir() else from_pickle(path, space)
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


def write_folder(folder: Path | str, weights: Mapping[str, Tensor], config: JsonMapping, dtype: torch.dtype) -> Path:
    """Writes `model.safetensors` and `config.json`, each completely or not at all."""
    folder = Path(folder)
    plain = {name: value.detach().to("cpu", dtype).contiguous() for name, value in weights.items()}
    try:
        with replacing(folder / "model.safetensors") as temporary:
            save_file(plain, temporary, metadata={"format": "pt"})
        write_json(folder / "config.json", config)
    except (NasError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {folder}: {error}") from None
    return folder


def read_config(file: Path, form: str) -> JsonObject:
    """The JSON object in a `config.json` of ours."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {file}: {error}") from None
    if not isinstance(config, dict) or config.get("format") != form:
        result = config.get("format") if isinstance(config, dict) else None
        raise CheckpointError(f"{file} must have the format {form!r}; got {result!r}")
    return config


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
        return from_hugging_face(folder, fields, space)
    return _from_ours(folder, read_config(config, FORMAT), space)


def _from_ours(folder: Path, config: JsonObject, space: Space | None) -> HubertSupernet:
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
    fill(folder / "model.safetensors", model, read_tensors(folder / "model.safetensors"))
    calibration = folder / "calibration.safetensors"
    if calibration.exists():
        model.calibration = load_calibration(calibration)
    if space is not None:
        model.use_space(space)
    return model
