"""Names on the Hub: read from huggingface_hub's own cache, and one clear line if they are not there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from supernet import save_supernet
from supernet.hub import is_hub_name, local_folder
from tests.supernet.families import saved
from tests.supernet.hub_server import TOKEN, hub

ROOT = Path(__file__).parents[2]

CODE = """
import sys
from supernet import load_supernet
from supernet.teacher import load_teacher
print(load_supernet("org/narrow-hubert").space.name, load_teacher("org/narrow-hubert").kind)
try:
    load_supernet("org/missing")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_what_is_a_name_and_what_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").mkdir()
    assert is_hub_name("openai/whisper-base")
    assert not any(map(is_hub_name, ("a/b", "hubert-tiny", "a/b/c", "/abs", "./x", "../x", "a/")))
    assert local_folder(tmp_path) == tmp_path


@pytest.fixture
def cache(tmp_path):
    """A cache as huggingface_hub lays it out, with one model."""
    folder = tmp_path / "models--org--narrow-hubert"
    snapshot = folder / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(snapshot.name)
    saved("hubert-base", snapshot)
    return tmp_path


def test_a_name_is_read_from_the_cache_and_offline_said_in_one_line(cache):
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()[-2:]
    assert first == "hubert-24 hubert"
    assert second.startswith("CheckpointError cannot get org/missing: ")
    assert "not in the cache and the Hub cannot be reached" in second


EXPORT_AND_READ = """
import sys
import cli
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
from supernet import load_supernet
model = load_supernet("ann/small")
print(model.space.largest.to_json(), model.provenance["base_model"])
"""


@pytest.fixture
def server():
    with hub() as running:
        yield running


def environment(server, tmp_path, **more):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING_FACE_"))}
    own = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    return {**kept, **own, "HF_HUB_DISABLE_XET": "1", **more}


def test_our_own_supernets_are_read_from_the_hub_and_exports_are_pushed_to_it(server, supernet, small_space, tmp_path):
    """By the real client, from and to a server on this machine."""
    folder = save_supernet(supernet, tmp_path / "own")
    server.models["org/own"] = {file.name: file.read_bytes() for file in folder.iterdir()}
    subnet = next(each for each in small_space if len({*each.heads}) == len({*each.ffn_ratios}) == 1
                  and each.heads[0] * small_space.network.head_dim == each.embed_dim)  # fmt: skip
    (tmp_path / "subnet.json").write_text(subnet.to_json())
    arguments = ("export", tmp_path / "subnet.json", "--supernet", "org/own", "--format", "hf", "--push", "ann/small",
                 "--out", tmp_path / "out")  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-c", EXPORT_AND_READ, *map(str, arguments)]
    known = environment(server, tmp_path, HF_TOKEN=TOKEN)
    done = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"pushed: {server.url}/ann/small" in done.stdout
    largest, base = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert (len(json.loads(largest)["heads"]), base) == (subnet.depth, "ann/small")
    pushed = server.models["ann/small"]
    assert {name: (tmp_path / "out" / "hf" / name).read_bytes() for name in pushed} == pushed
    assert {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"} <= set(pushed)
    card = ModelCard(pushed["README.md"].decode()).data.to_dict()
    assert {*server.validated} == {pushed["README.md"].decode()}
    assert card == {
        "license": "unknown",
        "library_name": "transformers",
        "pipeline_tag": "feature-extraction",
        "tags": ["speech", "neural-architecture-search", "lighthubert-nas"],
        "base_model": "org/own",
    }


@pytest.mark.parametrize(
    ("variables", "formats", "said"),
    [
        ({}, "hf", "--push needs a token that may write to the Hub: hf auth login, or set HF_TOKEN"),
        ({"HF_TOKEN": "hf_stolen"}, "hf", "--push: the Hub does not accept the token"),
        ({"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}, "hf", "HF_HUB_OFFLINE is set: unset it, or leave --push out"),
        ({"HF_TOKEN": TOKEN, "HF_ENDPOINT": "http://127.0.0.1:9"}, "hf", "--push: the Hub cannot be reached"),
        ({"HF_TOKEN": TOKEN}, "json", "--push uploads the format hf, and --format is json: add hf to it"),
    ],
)
def test_what_would_not_be_taken_is_said_before_any_work(server, tmp_path, variables, formats, said):
    known = environment(server, tmp_path, **variables)
    arguments = ("missing.json", "--supernet", "missing", "--out", "out", "--format", formats, "--push", "ann/small")
    command = [sys.executable, "-m", "cli", "export", *arguments]
    done = subprocess.run(command, env=known, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
