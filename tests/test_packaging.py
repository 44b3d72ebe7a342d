"""Files for packaging and clusters: they parse, and agree with each other. `make package` builds and installs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.test_cli import VERBS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in (".sh", ".yaml"))


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    facts = cited["title"], cited["version"], cited["license"], cited["keywords"]
    assert facts == (PROJECT["name"], PROJECT["version"], PROJECT["license"], PROJECT["keywords"])


def test_every_extra_that_is_named_exists():
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *EXAMPLES, ROOT / "Dockerfile"]
    code = [file for room in ("evaluators", "nas", "supernet", "search_spaces") for file in (ROOT / room).rglob("*.py")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in (*files, *code))
    named = {extra for group in re.findall(r"lighthubert-nas\[([a-z,]+)\]", text) for extra in group.split(",")}
    named |= set(re.search(r"ARG EXTRAS=(\S+)", (ROOT / "Dockerfile").read_text())[1].split(","))
    assert named <= set(PROJECT["optional-dependencies"]), named
    assert "ray" in named


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_examples_parse_and_their_commands_have_the_options(file):
    text = file.read_text()
    if file.suffix == ".sh":
        subprocess.run(["bash", "-n", file], check=True)
    else:
        assert yaml.safe_load(text)
    known = {flag for parameter in VERBS["nas search"].params for flag in parameter.opts}
    commands = re.findall(r"nas search .*?(?:--ray auto)", text, re.S)
    assert commands
    for command in commands:
        assert set(re.findall(r"--[a-z-]+", command)) <= known


def test_the_image_is_built_from_what_the_package_needs():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    assert kept == {"LICENSE", "README.md", "cli.py", "constraints.txt", "pyproject.toml", "evaluators", "nas",
                    "search_spaces", "supernet"}  # fmt: skip
    assert all((ROOT / name).exists() for name in kept)
