"""README.md and docs/: commands have the options they show, tutorials run, links lead somewhere.

A block is run unless its title starts with "Needs" or "Takes"; a block whose title is a file name is written to that
file. Pages find small stand-ins for `hubert-base/`, `openai/whisper-base` and `speech/manifest.jsonl` in their folder,
and `SMALL` cuts the amounts of work. The lines of a ```text block are the output of the block before it, where "…"
stands for any lines; each part of it must begin as documented, figures aside.

`python -m tests.docs.test_docs FILE...` runs the blocks as documented and puts the real output in place.
"""

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import typer

import cli
from benchmarks.evidence import markers
from supernet import load_supernet
from tests.supernet.families import saved_whole_whisper

ROOT = Path(__file__).parents[2]
DOCS = sorted(path for path in (ROOT / "docs").rglob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("[!i]*.md"))
RUN = [ROOT / "README.md", ROOT / "docs" / "guides" / "python.md", *TUTORIALS]
FENCE = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.M | re.S)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
UsageError = typer.BadParameter.__base__  # typer has no public name for it
LEFT_OUT = ("Needs", "Takes")
JOINED = "Needs several machines"
SMALL = [
    (r"--evals (\d+)", "--evals 4"),
    (r"evals=\d+", "evals=4"),
    (r"nas train ", "nas train --precision fp32 --batch-seconds 5 "),
    (r"seconds=\d+", "seconds=0.2"),
    (r"(nas latency calibrate --target \S+)$", r"\1 --measurements 12"),
    (r"(--score kl) ", r"\1 --evals 4 "),
    (r"nas compress ", "nas compress --specialise-steps 2 --evals 4 --batch-seconds 5 "),
    (r"--minutes \d+ ", ""),
    (r"(nas sweep .*?) --seed 1", r"\1"),
    (r"--device cuda", "--device cpu"),
    (r'"sampling_rate": rate}', r'\g<0>, generate_kwargs={"max_new_tokens": 8}'),
    (r"--(stage1-|stage2-|)steps \d+", r"--\1steps 2"),
    (r"pytest -q", "pytest -q -p no:cacheprovider -k 'nothing_infeasible or same_seed or resumed'"),
    (r"pip install -e \.", "pip install -q --no-deps --no-build-isolation --no-index --target . ."),
]
# options of other programs that the pages name on their own
OTHERS = {"--only", "--rounds"}


class Block(NamedTuple):
    language: str
    title: str
    text: str


def blocks(path):
    return [Block(language, title or "", text) for language, title, text in FENCE.findall(path.read_text("utf-8"))]


def relative(path):
    return str(path.relative_to(ROOT))


def lines_of(text):
    """The commands of a shell block: continued lines joined, comments left out."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines()) if line]


def nas_lines(path):
    """Every command line of `nas` in the shell blocks of a page."""
    shell = (block for block in blocks(path) if block.language in ("bash", "console"))
    for line in (line.removeprefix("$ ") for block in shell for line in lines_of(block.text)):
        if match := re.search(r"(?:^|\s)(nas .*)", line):
            yield match[1]


def command_of(words):
    """The command that `words` begin with, and the words that are left for it. Fails for an unknown one."""
    command, rest = typer.main.get_command(cli.app), list(words)
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        command = command.get_command(None, rest[0])
        assert command, f"no command: nas {shlex.join(words)}"
        rest.pop(0)
    return command, rest


def options_of(command):
    return {name for each in command.get_params(typer.Context(command)) for name in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_documented_commands_are_accepted(path):
    """By typer's own parser: options exist, values have their types, nothing that is required is missing."""
    for line in nas_lines(path):
        command, rest = command_of(shlex.split(line)[1:])
        if hasattr(command, "commands"):  # parsing the options of a group runs them: nas --install-completion
            assert set(rest) <= options_of(command), line
            continue
        try:
            command.make_context(line, rest)
        except typer.Exit:
            pass
        except UsageError as error:
            pytest.fail(f"{line}\n{error.format_message()}")


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_options_in_the_text_exist(path):
    """`nas search --uniform` has that option, and `--uniform` alone is an option of some command."""
    commands = [command_of([name])[0] for name in cli.COMMANDS]
    commands += [each for command in commands for each in getattr(command, "commands", {}).values()]
    known = OTHERS.union(*map(options_of, commands))
    prose = FENCE.sub("", path.read_text("utf-8"))
    for text in (" ".join(text.split()) for text in INLINE.findall(prose)):
        named = re.findall(r"(?<=\s)--[a-z][\w-]*", f" {text}")
        if re.match(r"nas [a-z]", text):
            command, _ = command_of([word for word in text.split()[1:] if not word.startswith("-")])
            assert set(named) <= options_of(command), text
        elif text.startswith("--"):
            assert set(named[:1]) <= known, text


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_python_is_valid(path):
    for block in blocks(path):
        if block.language == "python":
            compile(block.text, relative(path), "exec")


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text("utf-8")):
        if not re.match(r"https?:|mailto:", link):
            generated = path.is_relative_to(ROOT / "docs") and link.endswith(("cli.md", "contributing.md"))
            assert generated or (path.parent / link).exists(), link


def test_pages_that_the_code_names_exist():
    """In messages and docstrings: docs/log.md, docs/guides/ray.md."""
    for path in ROOT.glob("[ens]*/**/*.py"):
        for name in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text("utf-8")):
            assert (ROOT / name).is_file(), f"{relative(path)} names {name}"


def test_evidence_is_marked_and_of_the_shipped_weights():
    """Each piece has a name of its own, so that `make evidence` can write it."""
    marked = list(markers())
    names = [name for _, name, _ in marked]
    assert len(set(names)) == len(names) > 0
    for page in {page for page, _, _ in marked}:
        text = page.read_text("utf-8")
        whole = re.findall(
            r"<!-- evidence: [\w-]+(?:; weights \w+)? -->\n(?:(?!<!--).)*?\|(?:(?!<!--).)*?<!-- /evidence -->",
            text,
            re.S,
        )
        assert len(whole) == sum(of == page for of, _, _ in marked), page.name
    assert {weights for _, _, weights in marked} - {""} <= {load_supernet("hubert-tiny").fingerprint()}


class Runner:
    """Runs the blocks of one page in a folder, as a reader does: the shell's in order, Python's in one namespace."""

    def __init__(self, folder, small=True):
        self.folder, self.small, self.names = folder, small, {"__name__": "__main__"}

    def run(self, block):
        """What the block prints; None if it is left out."""
        if block.title.startswith(LEFT_OUT):
            return None
        if "." in block.title:
            (self.folder / block.title).write_text(block.text, "utf-8")
            return None
        text = block.text
        for pattern, cut in SMALL if self.small else []:
            text = re.sub(pattern, cut, text)
        if block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(text, "block", "exec"), self.names)
            return printed.getvalue()
        if block.language == "bash":
            return "".join(map(self._shell, lines_of(text)))
        return None

    def _shell(self, line):
        if line.startswith("nas "):
            return self._nas(shlex.split(line)[1:])
        line = re.sub(r"^(pip|pytest) ", rf"{shlex.quote(sys.executable)} -m \1 ", line)
        environment = {**os.environ, "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}"}
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if "pip" in line:
            self._installed()
        return done.stdout

    def _nas(self, words):
        """In this process, since starting one that imports torch takes seconds."""
        with (
            contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")) as out,
            contextlib.redirect_stderr(io.TextIOWrapper(io.BytesIO(), "utf-8")) as err,
            warnings.catch_warnings(),
            pytest.MonkeyPatch.context() as patch,
        ):
            warnings.simplefilter("default")
            patch.setattr(sys, "argv", ["nas", *words])
            patch.setenv("COLUMNS", "80")
            with pytest.raises(SystemExit) as ended:
                cli.main()
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read())
        assert ended.value.code in (0, None), f"nas {shlex.join(words)}\n{''.join(texts)}"
        return texts[0]

    def _installed(self):
        """What is installed in the folder is known to this process."""
        from nas.searchers import SEARCHERS

        sys.path.insert(0, str(self.folder))
        vars(SEARCHERS).pop("_entries", None)


def furnish(folder):
    """Small stand-ins: for `hubert-base/`, for `openai/whisper-base`, and for speech, tones in noise."""
    import torch
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    convolutions = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    HubertModel(HubertConfig(**sizes, **convolutions)).save_pretrained(folder / "hubert-base")
    saved_whole_whisper(folder / "openai" / "whisper-base")
    (folder / "speech").mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for i in range(25):
        time = np.arange(int(rng.integers(8_000, 16_000))) / 16_000
        samples = 0.3 * np.sin(2 * np.pi * rng.uniform(80, 2000) * time) + 0.01 * rng.normal(size=len(time))
        soundfile.write(folder / "speech" / f"{i}.flac", samples.astype(np.float32), 16_000)
        split, text = ("train", "dev", "dev", "train", "test")[i % 5], ("one", "two")[i % 2]
        line = {"audio": f"{i}.flac", "seconds": len(time) / 16_000, "split": split, "text": text, "language": "en"}
        lines.append(json.dumps(line))
    soundfile.write(folder / "clip.wav", samples.astype(np.float32), 16_000)
    (folder / "speech" / "manifest.jsonl").write_text("\n".join(lines))


def parts_of(output):
    """The parts of a documented output, which "…" separate: lists of lines."""
    return [lines for part in re.split(r"^…$", output, flags=re.M) if (lines := part.strip("\n").splitlines())]


def shape(line):
    """A line without its figures and its layout."""
    return re.sub(r"[\d,.]*\d[\d,.]*", "#", re.sub(r"[^\S\n]+|[─━]+", " ", line)).strip()


def refreshed(output, printed):
    """A documented output with the lines of what was printed in the place of its own."""
    lines = [line.rstrip() for line in printed.rstrip("\n").splitlines()]
    if not (parts := parts_of(output)):
        return "\n".join(lines) + "\n"
    shapes = [shape(line) for line in lines]
    pieces = re.split(r"(?m)^(…)$", output)
    for part in parts:
        start = shapes.index(shape(part[0]))
        new = lines[start : start + len(part)]
        pieces[pieces.index(next(p for p in pieces if p.strip("\n").splitlines() == part))] = "\n".join(["", *new, ""])
    return "".join(pieces).lstrip("\n")


def rewrite(path, folder):
    """Runs a page as documented, and writes the real output into it."""
    text, runner, printed = path.read_text("utf-8"), Runner(folder, small=False), None
    parts, end = [], 0
    for match in FENCE.finditer(text):
        block = Block(match[1], match[2] or "", match[3])
        if block.language == "text" and printed is not None:
            parts += [text[end : match.start(3)], refreshed(block.text, printed)]
            end = match.end(3)
        else:
            printed = runner.run(block)
    path.write_text("".join([*parts, text[end:]]), "utf-8")


@contextlib.contextmanager
def nodes():
    """A Ray cluster of two nodes, which `--ray auto` joins."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    store = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **store})
    cluster.add_node(num_cpus=2, **store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.parametrize("path", RUN, ids=relative)
def test_tutorials_run(path, tmp_path, monkeypatch):
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    runner, printed = Runner(tmp_path), None
    with contextlib.ExitStack() as stack:
        for block in blocks(path):
            if block.title == JOINED:  # where the nodes of the page's cluster have come together
                stack.enter_context(nodes())
            if block.language == "text" and printed is not None:
                lines = [shape(line) for line in printed.splitlines()]
                for part in parts_of(block.text):
                    assert shape(part[0]) in lines, f"{part[0]!r} is not in:\n{printed}"
            else:
                printed = runner.run(block)


def main(*names):
    for path in [Path(name).resolve() for name in names]:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            furnish(Path(folder))
            rewrite(path, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
