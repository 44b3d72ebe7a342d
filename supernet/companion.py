"""The rest of a model whose encoder is a supernet: Whisper's decoder, and the files with its tokenizer and settings."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from search_spaces import CheckpointError
from search_spaces.files import read_text, replacing
from supernet.weights import instead_of, shards

__all__ = ["REST", "Rest", "rest_of_model", "save_rest"]

REST = "rest"  # of our folders: the folder with these files
_FILES = (
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
)


@dataclass(frozen=True)
class Rest:
    """`weights`: under the names of WhisperForConditionalGeneration, without the encoder's, as stored; empty if the
    folder has an encoder alone. `config`: of the whole model. `files`: tokenizer and settings.
    """

    config: dict[str, Any]
    weights: dict[str, Tensor]
    files: tuple[Path, ...]


def rest_of_model(folder: Path) -> Rest:
    """The rest of the model in a Hugging Face folder, or in our copy of it. Raises `CheckpointError`."""
    try:
        config = json.loads(read_text(folder / "config.json"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {folder / 'config.json'}: {error}") from None
    weights: dict[str, Tensor] = {}
    for file in shards(folder):
        try:
            stored = load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"cannot read {file}: {instead_of(file) or error}") from None
        for name, value in stored.items():
            plain = name.removeprefix("model.")
            if plain.startswith("decoder."):
                weights[f"model.{plain}"] = value
            elif name == "proj_out.weight":
                weights[name] = value
    return Rest(config, weights, tuple(folder / name for name in _FILES if (folder / name).is_file()))


def save_rest(source: Path, folder: Path) -> Path | None:
    """Copies the rest of a model into `folder`, one of ours; returns where it is, or None if there is no decoder."""
    rest, target = rest_of_model(source), folder / REST
    if not rest.weights:
        return None
    target.mkdir(parents=True, exist_ok=True)
    for file in rest.files:
        with replacing(target / file.name) as temporary:
            shutil.copyfile(file, temporary)
    with replacing(target / "model.safetensors") as temporary:
        save_file({name: value.contiguous() for name, value in rest.weights.items()}, temporary, {"format": "pt"})
    with replacing(target / "config.json") as temporary:  # last: the folder counts once it is there
        temporary.write_text(json.dumps(rest.config, indent=1) + "\n", encoding="utf-8")
    return target
