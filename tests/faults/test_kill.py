"""Commands killed before a file operation: the same command again ends with the same, and nothing is left over.

`python -m tests.faults.test_kill COMMAND` tries every operation of a command; the tests here try some.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.faults.kill import Killer
from tests.nas.commands.helpers import nas

SPACE = """
name = "small"
embed_dims = [16, 32]
heads = [1, 2]
ffn_ratios = [1.5, 2.0]
depths = [10, 12]
[network]
conv_layers = [[16, 10, 5], [16, 3, 2], [16, 3, 2], [16, 3, 2], [16, 3, 2], [16, 2, 2], [16, 2, 2]]
width = 32
heads = 2
ffn_dim = 64
head_dim = 16
pos_conv_kernel = 16
pos_conv_groups = 4
"""


@dataclass(frozen=True)
class Command:
    """`words` write to `out`, in the folder of the inputs; `results` are what must not depend on a kill."""

    words: tuple[str, ...]
    results: Callable[[Path], object]


def of_search(out: Path) -> object:
    lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    ledger = [{key: line[key] for key in ("index", "id", "subnet", "costs", "score", "status")} for line in lines]
    return ledger, *(json.loads((out / name).read_text()) for name in ("best.json", "front.json"))


def of_weights(out: Path) -> object:
    from safetensors.torch import load_file

    files = sorted(out.rglob("*.safetensors"))
    return {
        str(file.relative_to(out)): {name: value.sum().item() for name, value in load_file(file).items()}
        for file in files
    }


COMMANDS = {
    "search": Command(
        ("search", "--budget", "params<=2.5M", "--evals", "4", "--batch", "2", "--out", "out"), of_search
    ),
    "export": Command(("export", "run", "--format", "json,safetensors,hf", "--out", "out"), of_weights),
    "convert": Command(("convert", "hubert-tiny", "--out", "out"), of_weights),
    "train": Command(
        ("train", "--teacher", "teacher", "--audio", "speech/manifest.jsonl", "--space", "space.toml",
         "--stage1-steps", "2", "--stage2-steps", "2", "--batch-seconds", "2", "--out", "out"),
        of_weights,
    ),
    "finetune": Command(
        ("finetune", "--model", "exported", "--task", "keyword", "--manifest", "speech/manifest.jsonl",
         "--steps", "2", "--batch-seconds", "2", "--out", "out"),
        lambda out: (of_weights(out), json.loads((out / "result.json").read_text())["results"]),
    ),
}  # fmt: skip


def run(folder: Path, at: int, *words: str) -> int:
    """The exit status of `nas words` in `folder`, killed before operation number `at` below it; 0: not killed."""
    return nas(*words, cwd=folder, around=Killer(folder, at)).returncode


def make_inputs(folder: Path) -> None:
    """A run, an exported subnet, recordings with labels and splits, a small teacher."""
    import soundfile
    import torch
    from transformers import HubertConfig, HubertModel

    assert run(folder, 0, "search", "--evals", "4", "--out", "run") == 0
    assert run(folder, 0, "export", "run", "--out", "exported") == 0
    (folder / "space.toml").write_text(SPACE)
    (folder / "speech").mkdir()
    rng, lines = np.random.default_rng(0), []
    for i in range(24):
        soundfile.write(folder / "speech" / f"{i}.flac", 0.1 * rng.standard_normal(8000), 16_000)
        split = ("train", "train", "dev", "test")[i // 2 % 4]
        lines.append(json.dumps({"audio": f"{i}.flac", "seconds": 0.5, "split": split, "keyword": "ab"[i % 2]}))
    (folder / "speech" / "manifest.jsonl").write_text("\n".join(lines))
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    HubertModel(config).save_pretrained(folder / "teacher")


def whole(folder: Path, name: str) -> tuple[object, list[str], int]:
    """Results, file names and the number of operations of a command that nothing interrupts."""
    assert run(folder, 0, *COMMANDS[name].words) == 0
    return COMMANDS[name].results(folder / "out"), names(folder), int(Path(f"{folder}.count").read_text())


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def killed(folder: Path, name: str, at: int) -> tuple[object, list[str]]:
    """The same, after a kill before operation `at` and the same command again (a search that began: --resume)."""
    words = COMMANDS[name].words
    assert run(folder, at, *words) == -9
    again = words
    if name == "search" and (folder / "out" / "run.json").exists():
        again = ("search", "--resume", "out")
    assert run(folder, 0, *again) == 0, f"{name}: {' '.join(again)} after a kill before operation {at}"
    return COMMANDS[name].results(folder / "out"), names(folder)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs") / "files"
    folder.mkdir()
    make_inputs(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_is_finished_by_the_same_command(inputs, tmp_path, name):
    shutil.copytree(inputs, tmp_path / "whole")
    results, files, operations = whole(tmp_path / "whole", name)
    for share in (0.5, 0.95):
        folder = tmp_path / str(share)
        shutil.copytree(inputs, folder)
        assert killed(folder, name, max(1, round(share * operations))) == (results, files)


def main() -> None:
    """Every operation of the commands named on the command line."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "inputs"
        source.mkdir()
        make_inputs(source)
        for name in sys.argv[1:] or COMMANDS:
            shutil.copytree(source, Path(scratch) / "whole")
            results, files, operations = whole(Path(scratch) / "whole", name)
            shutil.rmtree(Path(scratch) / "whole")
            short = 0
            for at in range(1, operations + 1):
                folder = Path(scratch) / "killed"
                shutil.copytree(source, folder)
                try:
                    fell_short = killed(folder, name, at) != (results, files)
                except (AssertionError, OSError, ValueError) as error:
                    fell_short = True
                    print(f"{name}, operation {at}: {error!s:.200}")
                if fell_short:
                    short += 1
                    print(f"{name}, operation {at}: {set(names(folder)) ^ set(files)}")
                shutil.rmtree(folder)
            print(f"{name}: {short} of {operations} kill points fell short", flush=True)


if __name__ == "__main__":
    main()
