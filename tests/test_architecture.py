"""Imports point down, modules say what they export, and nothing in the tables is missing."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "search_spaces": set(),
    "nas": {"search_spaces"},
    "supernet": {"search_spaces"},
    "evaluators": {"search_spaces", "supernet"},
    "commands": {"search_spaces", "supernet", "evaluators", "nas"},  # nas/commands: the only part of nas to see them
    "cli": {"search_spaces", "supernet", "evaluators", "nas"},
}
MODULES = sorted(path for room in MAY_IMPORT for path in [*ROOT.glob(f"{room}/**/*.py"), *ROOT.glob(f"{room}.py")])


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[0] for name in names if name)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    parts = path.relative_to(ROOT).parts
    room = "commands" if parts[:2] == ("nas", "commands") else parts[0].removesuffix(".py")
    assert set(imported_rooms(path)) & set(MAY_IMPORT) <= MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_exports_exist_and_are_sorted(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    exported = importlib.import_module(name).__all__
    assert list(exported) == sorted(exported)
    assert all(hasattr(importlib.import_module(name), each) for each in exported)


@pytest.mark.parametrize(
    "table", ["nas:SEARCHERS", "supernet.export:EXPORTERS", "evaluators.costs:COSTS", "evaluators.scores:SCORES"]
)
def test_every_table_entry_can_be_made(table):
    module, _, name = table.partition(":")
    for target in getattr(importlib.import_module(module), name).values():
        where, _, what = target.partition(":")
        assert callable(getattr(importlib.import_module(where), what))
