"""The shape of the house: imports point down and in no circle, modules export what they have, and stay small."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from search_spaces.hubert import tomllib

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "search_spaces": set(),
    "nas": {"search_spaces"},
    "supernet": {"search_spaces"},
    "evaluators": {"search_spaces", "supernet"},
    "commands": {"search_spaces", "supernet", "evaluators", "nas"},  # nas/commands: the only part of nas to see them
    "cli": {"search_spaces", "supernet", "evaluators", "nas"},
}
ROOMS = ("search_spaces", "nas", "supernet", "evaluators")
MODULES = [ROOT / "cli.py", *sorted(path for room in ROOMS for path in ROOT.glob(f"{room}/**/*.py"))]
MAX_FILE_LINES, MAX_CLI_LINES, MAX_FUNCTION_LINES, MAX_ANY_PER_1000_LINES = 500, 100, 60, 8


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path): path for path in MODULES}


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def relative(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """(module, whether it is imported when the module itself is): absolute names, of modules or of what they hold."""
    at_import = {id(node) for node in _outside_functions(tree_of(path))}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((name, id(node) in at_import) for name in names)


def _outside_functions(node):
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from _outside_functions(child)


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_point_down(path):
    parts = path.relative_to(ROOT).parts
    room = "commands" if parts[:2] == ("nas", "commands") else parts[0].removesuffix(".py")
    own = "nas" if room == "commands" else room
    assert {name.split(".")[0] for name, _ in imported(path)} & set(MAY_IMPORT) <= MAY_IMPORT[room] | {own}
    if room not in ("commands", "cli"):
        assert not any(name.startswith("nas.commands") for name, _ in imported(path))


def test_no_imports_go_in_a_circle():
    """Those for type checking included; those inside functions are made when the function runs."""
    graph = {}
    for name, path in NAMES.items():
        targets = set()
        for each, at_import in imported(path):
            if at_import and each.split(".")[0] in (*ROOMS, "cli"):
                targets.add(each if each in NAMES else each.rpartition(".")[0])
        graph[name] = {target for target in targets if target in NAMES and target != name}
    done, path_to = set(), []

    def visit(name):
        if name in path_to:
            pytest.fail("imports go in a circle: " + " -> ".join([*path_to[path_to.index(name) :], name]))
        if name not in done:
            path_to.append(name)
            for target in sorted(graph[name]):
                visit(target)
            done.add(path_to.pop())

    for name in sorted(graph):
        visit(name)


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_exports_exist_and_are_sorted(path):
    module = importlib.import_module(name_of(path))
    assert list(module.__all__) == sorted(module.__all__)
    assert all(hasattr(module, each) for each in module.__all__)


@pytest.mark.parametrize(
    "table",
    [
        "nas.searchers:SEARCHERS",
        "supernet.export:EXPORTERS",
        "evaluators.costs:COSTS",
        "evaluators.scores:SCORES",
        "evaluators.tasks:TASKS",
    ],
)
def test_every_table_entry_can_be_loaded(table):
    module, _, name = table.partition(":")
    registry = getattr(importlib.import_module(module), name)
    assert registry
    for entry in registry:
        assert registry.load(entry) is not None


def test_files_and_functions_are_small():
    large = []
    for path in MODULES:
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > (
            MAX_CLI_LINES if path.name == "cli.py" else MAX_FILE_LINES
        ):
            large.append(f"{relative(path)}: {lines} lines")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    large.append(f"{relative(path)}: {node.name} has {lines} lines")
    assert not large


def test_types_say_what_they_are():
    lines = [line for path in MODULES for line in path.read_text(encoding="utf-8").splitlines()]
    vague = sum(bool(re.search(r"\bAny\b", line)) for line in lines)
    assert 1000 * vague / len(lines) < MAX_ANY_PER_1000_LINES


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__init__.py"], ids=relative)
def test_every_module_with_logic_has_a_mirrored_test(path):
    bodies = [node.body for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]
    if any(not _is_stub(body) for body in bodies):
        place = path.relative_to(ROOT)
        assert (ROOT / "tests" / place.parent / f"test_{place.name}").is_file()


def _is_stub(body):
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


@pytest.mark.parametrize("room", ROOMS)
def test_type_checkers_of_users_see_our_types(room):
    """PEP 561: a marker in every package, which the wheel holds too."""
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "py.typed" in shipped[room]
    assert (ROOT / room / "py.typed").is_file()
