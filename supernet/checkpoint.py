"""Supernets on disk: our own folders, and `load_supernet`, which reads every supported kind of checkpoint.

A folder of ours holds `model.safetensors`, `config.json` (space, heads, provenance) and perhaps
`calibration.safetensors`, and `rest/` with the decoder of its source. Checkpoints of other packages are read by
`foreign.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from search_spaces import CheckpointError, NasError, Space, SpaceError, space_from_dict
from search_spaces.files import read_text, replacing
from supernet.calibration import load_calibration
from supernet.companion import REST
from supernet.foreign import from_hugging_face, from_pickle
from supernet.hub import is_hub_name, local_folder
from supernet.model import HubertSupernet
from supernet.preprocessor import Preprocessor
from supernet.weights import read_tensors, with_weights

__all__ = ["check_pair", "load_supernet", "read_config", "save_supernet", "shipped", "write_folder"]

FORMAT = "lighthubert-nas supernet 1"
PAIR = "written_together"
_SHIPPED = Path(__file__).parent / "pretrained"


def shipped() -> list[str]:
    """Names of the supernets that come with the package."""
    return sorted(folder.name for folder in _SHIPPED.glob("*") if (folder / "config.json").is_file())


def load_supernet(path_or_name: Path | str, device: str = "cpu", space: Space | None = None) -> HubertSupernet:
    """The supernet in a checkpoint, of the Hub, or the shipped one of that name, in float32 and eval mode on `device`.

    `space`: the subnets to search. For a supernet of ours it must be a part of the stored space. A checkpoint of
    another package stores only sizes: there the default is `lighthubert-base` for a network of HuBERT Base's sizes,
    else the fine space of its network.
    Raises `CheckpointError` for anything that cannot be read safely and completely.
    """
    name = str(path_or_name)
    path = _SHIPPED / name if name in shipped() else local_folder(path_or_name)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that are too long
        raise CheckpointError(
            f"no supernet '{name[:200]}': neither a file or folder nor a shipped name "
            f"({', '.join(shipped()) or 'none'}), nor a name on the Hub (org/name)"
        )
    try:
        model = _from_folder(path, space) if path.is_dir() else from_pickle(path, space)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    except SpaceError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if is_hub_name(name):
        model.provenance.setdefault("base_model", name)
    return model.to(device).eval()


def save_supernet(model: HubertSupernet, folder: Path | str, dtype: torch.dtype = torch.float32) -> Path:
    """Writes `model.safetensors` and `config.json` (space, heads, provenance) into `folder`."""
    config = {
        "format": FORMAT,
        "space": model.space.to_dict(),
        "head_layers": list(model.head_layers),
        "head_dim": model.head_dim,
        "frame_rule": model.frame_rule,
        "input": model.prepare.to_dict(),
        "provenance": model.provenance,
        **({} if model.trained_for_space else {"trained_for_space": False}),
        **({} if model.compensation == "none" else {"compensation": model.compensation}),
    }
    return write_folder(folder, model.state_dict(), config, dtype)


def write_folder(
    folder: Path | str, weights: Mapping[str, Tensor], config: Mapping[str, object], dtype: torch.dtype
) -> Path:
    """Writes `model.safetensors` and `config.json`; neither is replaced before both are written completely.

    Both hold the same mark, so that `check_pair` notices if the process was killed between the two.
    """
    folder = Path(folder)
    plain = {name: value.detach().to("cpu", dtype).contiguous() for name, value in weights.items()}
    digest = hashlib.sha256()
    for name in sorted(plain):
        digest.update(plain[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    mark = digest.hexdigest()[:12]
    try:
        with (
            replacing(folder / "config.json") as config_file,  # replaced last, so that it never precedes its weights
            replacing(folder / "model.safetensors") as weights_file,
        ):
            save_file(plain, weights_file, metadata={"format": "pt", PAIR: mark})
            _in_fixed_order(weights_file)
            config_file.write_text(json.dumps({**config, PAIR: mark}, indent=1) + "\n", encoding="utf-8")
    except SafetensorError as error:
        raise CheckpointError(f"cannot write {folder}: {error}") from None
    except NasError as error:
        raise CheckpointError(str(error)) from None
    return folder


def _in_fixed_order(file: Path) -> None:
    """Sorts the metadata in the header of a safetensors file, in place: safetensors writes it in random order."""
    with file.open("r+b") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:
            opened.seek(8)
            opened.write(text.ljust(size))


def check_pair(folder: Path, config: Mapping[str, object]) -> None:
    """Raises `CheckpointError` for weights that were not written together with `config`; older ones have no mark."""
    try:
        with safe_open(folder / "model.safetensors", "pt") as weights:
            mark = (weights.metadata() or {}).get(PAIR)
    except (SafetensorError, OSError):
        return  # reading the weights will say what is wrong
    if mark is not None and mark != config.get(PAIR):
        raise CheckpointError(
            f"{folder}: config.json and model.safetensors were not written together; run the command that "
            "wrote them again"
        )


def read_config(file: Path, form: str) -> dict[str, Any]:
    """The JSON object in a `config.json` whose `format` is `form`."""
    try:
        config = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {file}: {error}") from None
    if not isinstance(config, dict) or config.get("format") != form:
        actual = config.get("format") if isinstance(config, dict) else None
        raise CheckpointError(f"{file} must have the format {form!r}; got {actual!r}")
    return config


def _from_folder(folder: Path, space: Space | None) -> HubertSupernet:
    file = folder / "config.json"
    if not file.is_file():
        if (folder / "run.json").is_file():
            raise CheckpointError(f"{folder} is a run, not a supernet: its run.json names the supernet it searched")
        raise CheckpointError(f"{folder} holds no config.json: neither our supernet nor a Hugging Face model")
    try:
        config = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from None
    if isinstance(config, dict) and "model_type" in config:
        return from_hugging_face(folder, config, space)
    if isinstance(config, dict) and str(config.get("format")).startswith("lighthubert-nas subnet"):
        raise CheckpointError(f"{folder} is one exported subnet: give the supernet that it was cut from")
    model = _from_ours(folder, read_config(file, FORMAT))
    if space is not None:
        model.use_space(space)
    return model


def _from_ours(folder: Path, config: Mapping[str, Any]) -> HubertSupernet:
    """The supernet of the whole stored space, with its calibration speech if the folder has some."""
    try:
        make = _untrained(folder, config)
    except NasError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: missing or invalid {error}") from None
    check_pair(folder, config)
    file = folder / "model.safetensors"
    model = with_weights(make, read_tensors(file), file)
    model.trained_for_space = config.get("trained_for_space") is not False
    calibration = folder / "calibration.safetensors"
    if calibration.exists():
        model.calibration = load_calibration(calibration)
    if (folder / REST / "config.json").is_file():
        model.source = folder / REST
    return model


def _untrained(folder: Path, config: Mapping[str, Any]) -> Callable[[], HubertSupernet]:
    heads, head_dim = tuple(int(n) for n in config["head_layers"]), int(config["head_dim"])
    space = space_from_dict(config["space"])
    layers = range(1, space.network.num_layers + 1)
    if head_dim < bool(heads) or list(heads) != sorted(set(heads)) or any(n not in layers for n in heads):
        raise CheckpointError(
            f"head_layers of {folder} must be increasing layer numbers of 1..{layers[-1]}, with a positive head_dim; "
            f"got {list(heads)} and {head_dim}"
        )
    prepare = Preprocessor.from_dict(config.get("input"), folder / "config.json")
    rule, provenance = config["frame_rule"], dict(config["provenance"])
    compensation = config.get("compensation", "none")
    return lambda: HubertSupernet(space, heads, head_dim, rule, provenance, prepare, compensation)
