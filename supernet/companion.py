"""The rest of a model whose encoder is a supernet: Whisper's decoder, and the files with its tokenizer and settings."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from search_spaces import CheckpointError
from search_spaces.files import read_text, replacing
from supernet.weights import shards, tensor_names

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


_HEAD = "proj_out.weight"


@dataclass(frozen=True)
class Rest:
    """`config`: of the whole model. `files`: tokenizer and settings. `stored`: (file, name) of each weight that is not
    the encoder's; none if the folder has an encoder alone.
    """

    config: dict[str, Any]
    stored: tuple[tuple[Path, str], ...]
    files: tuple[Path, ...]

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """Those weights under the names of WhisperForConditionalGeneration, as stored."""
        by_file = {file: [name for of, name in self.stored if of == file] for file, _ in self.stored}
        weights: dict[str, Tensor] = {}
        for file, names in by_file.items():
            with safe_open(file, "pt") as opened:
                weights |= {_whole_name(name): opened.get_tensor(name) for name in names}
        return weights


def _whole_name(name: str) -> str:
    return f"model.{name.removeprefix('model.')}" if name != _HEAD else name


def rest_of_model(folder: Path) -> Rest:
    """The rest of the model in a Hugging Face folder, or in our copy of it. Raises `CheckpointError`."""
    try:
        config = json.loads(read_text(folder / "config.json"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {folder / 'config.json'}: {error}") from None
    names = [(file, name) for file in shards(folder) for name in tensor_names(file)]
    stored = [each for each in names if each[1] == _HEAD or each[1].removeprefix("model.").startswith("decoder.")]
    return Rest(config, tuple(stored), tuple(folder / name for name in _FILES if (folder / name).is_file()))


def save_rest(source: Path, folder: Path) -> Path | None:
    """Copies the rest of a model into `folder`, one of ours; returns where it is, or None if there is no decoder."""
    rest, target = rest_of_model(source), folder / REST
    if not rest.stored:
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
