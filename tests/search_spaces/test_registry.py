"""Tables of names, extended by real entry points of a package on the path."""

import pytest

from search_spaces import NasError
from search_spaces.registry import Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that declares entry points, as pip would install it."""

    def install(entries, name="third_party"):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[lighthubert_nas.tests]\n" + "\n".join(entries) + "\n")
        (tmp_path / f"{name}.py").write_text("class Mine:\n    class Inner:\n        pass\n")
        (tmp_path / f"{name}_broken.py").write_text("import no_such_module\n")
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


def test_entries_may_be_attributes_of_classes(package):
    package(["inner = third_party:Mine.Inner"])
    assert table().load("inner").__qualname__ == "Mine.Inner"


def test_two_packages_may_not_share_a_name(package):
    package(["mine = third_party:Mine"])
    package(["mine = another:Mine"], "another")
    with pytest.raises(NasError, match=r"two entry points of lighthubert_nas\.tests have the name 'mine': .*; rename"):
        table().load("path")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("third_party_broken:Mine", "No module named 'no_such_module'"),
        ("third_party:Missing", "module 'third_party' has no attribute 'Missing'"),
        ("not_there:Mine", "No module named 'not_there'"),
    ],
)
def test_entry_points_that_cannot_be_loaded_are_one_line(package, target, reason):
    package([f"mine = {target}"])
    with pytest.raises(NasError) as caught:
        table().load("mine")
    assert str(caught.value) == f"cannot load test 'mine' from entry point {target}: {reason}"


def test_entry_points_that_need_an_extra_name_it_too(package, tmp_path):
    package(["mine = needs_extra:Mine"])
    (tmp_path / "needs_extra.py").write_text("import not_installed.part\n")
    with pytest.raises(NasError, match=r"test 'mine' needs not_installed: pip install 'lighthubert-nas\[optuna\]'"):
        table().load("mine")


def test_nothing_is_imported_before_it_is_loaded(package):
    package(["mine = third_party_broken:Mine"])
    assert dict(table())["mine"] == "third_party_broken:Mine"
