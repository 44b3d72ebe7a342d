"""Tables of names, extended by real entry points of a package on the path."""

import pytest

from search_spaces import NasError
from search_spaces.registry import Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that declares entry points, as pip would install it."""

    def install(entries):
        info = tmp_path / "third_party-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[lighthubert_nas.tests]\n" + "\n".join(entries) + "\n")
        (tmp_path / "third_party.py").write_text("class Mine:\n    pass\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


def table():
    extras = {"not_installed": "optuna"}
    built_in = {"path": "pathlib:Path", "gone": "not_installed:X", "broken": "broken_module:X"}
    return Registry("test", "lighthubert_nas.tests", built_in, extras)


def test_names_are_loaded_when_they_are_used():
    from pathlib import Path

    assert table().load("path") is Path
    assert list(table()) == ["path", "gone", "broken"]
    assert len(table()) == 3
    assert table()["path"] == "pathlib:Path"


def test_unknown_names_list_the_known():
    for name in ("nothing", None, ["path"]):
        with pytest.raises(NasError, match=r"unknown test .*; known: path, gone, broken"):
            table().load(name)


def test_what_is_not_installed_says_how_to_install_it():
    with pytest.raises(NasError, match=r"test 'gone' needs not_installed: pip install 'lighthubert-nas\[optuna\]'"):
        table().load("gone")
    with pytest.raises(ModuleNotFoundError):
        table().load("broken")


def test_packages_add_entries(package):
    package(["mine = third_party:Mine"])
    assert table().load("mine").__name__ == "Mine"
    assert "mine" in table()


def test_packages_do_not_replace_entries(package):
    package(["path = third_party:Mine"])
    with pytest.raises(NasError, match="has the name of a built-in test"):
        table().load("path")
