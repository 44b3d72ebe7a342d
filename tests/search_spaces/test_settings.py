"""Settings: one description for Python, files and the command line."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pytest

from search_spaces import Budget, NasError
from search_spaces.settings import Settings, option, option_of


@dataclass(frozen=True)
class Example(Settings):
    evals: int = option(64, "Evaluations.", minimum=0, maximum=1000)
    share: float = option(0.5, minimum=0)
    budgets: tuple[Budget, ...] = option((), parse=Budget.parse)
    space: str | None = option(None, path=True, names=lambda: ["tiny"])
    out: str | None = option(None, output=True)
    quiet: bool = option(False)
    plain: str = "x"


def test_a_round_trip_keeps_everything(tmp_path):
    space = tmp_path / "a.toml"
    space.touch()
    made = Example(3, 1.5, (Budget("params", 2_000_000),), str(space), str(tmp_path / "out"), True, "é")
    plain = made.to_dict()
    assert plain["budgets"] == ["params<=2000000"]
    assert Example.from_dict(plain) == made
    assert Example.from_dict({}) == Example()


def test_paths_are_kept_absolute_and_names_are_not_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "other"):
        Path(name).mkdir()
    assert Example(space="other").to_dict()["space"] == str(tmp_path / "other")
    assert Example(space="tiny").to_dict()["space"] == "tiny"
    assert Example(space="missing").to_dict()["space"] == "missing"
    assert Example(out="missing").to_dict()["out"] == str(tmp_path / "missing")
    assert Example(out="s3://a/b").to_dict()["out"] == "s3://a/b"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eval": 3}, r"run\.toml: unknown setting 'eval'; did you mean evals\? \(known: evals, share"),
        ({"zzz": 3}, r"run\.toml: unknown setting 'zzz' \(known"),
        ({3: 3}, "unknown setting '3'"),
        ({"evals": "3"}, r"run\.toml: evals must be a whole number; got '3'"),
        ({"evals": 3.0}, "evals must be a whole number; got 3.0"),
        ({"evals": True}, "evals must be a whole number; got True"),
        ({"evals": None}, "evals must be a whole number; got None"),
        ({"evals": -1}, r"evals must be a finite number in 0\.\.1000; got -1"),
        ({"evals": 10**30}, "evals must be a finite number"),
        ({"evals": 10**400}, "evals must be a finite number"),
        ({"share": 10**400}, "share must be a finite number"),
        ({"share": float("nan")}, "share must be a finite number"),
        ({"share": float("inf")}, "share must be a finite number"),
        ({"share": "much"}, "share must be a number; got 'much'"),
        ({"budgets": "params<=3"}, "budgets must be a list; got"),
        ({"budgets": [3]}, "budgets must be"),
        ({"budgets": ["params<3"]}, "written with <="),
        ({"quiet": 1}, "quiet must be true or false; got 1"),
        ({"space": ["a"]}, "space must be text"),
        ({"plain": {}}, "plain must be text"),
    ],
)
def test_what_is_no_setting_is_refused_in_one_line(values, message):
    with pytest.raises(NasError, match=message) as caught:
        Example.from_dict(values, "run.toml")
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_numbers():
    assert Example.from_dict({"share": 2}).share == 2.0


def test_settings_are_checked_when_they_are_made():
    with pytest.raises(NasError, match="evals must be"):
        Example(evals=-3)


def test_required_settings_are_asked_for():
    @dataclass(frozen=True)
    class Needs(Settings):
        teacher: str = option(help="Teacher.")

    with pytest.raises(NasError, match="missing setting 'teacher'"):
        Needs.from_dict({})
    assert Needs.from_dict({"teacher": "x"}).teacher == "x"


def test_fields_tell_how_they_are_shown():
    by_name = {field.name: option_of(field) for field in fields(Example)}
    assert by_name["evals"].help == "Evaluations."
    assert by_name["plain"].help == ""


@dataclass(frozen=True)
class Files(Settings):
    folder: Path = option(help="Folder.", path=True)
    seeds: tuple[int, ...] = option((0,), minimum=0)
    rates: tuple[float, ...] | None = option(None)
    labels: tuple[str, ...] = field(default_factory=tuple)


def test_python_values_are_checked_and_converted_as_those_of_files_are():
    made = Example(evals=np.int64(3), share=np.float32(0.5), budgets=["params<=2M", Budget("macs", 5)])
    assert made == Example(3, 0.5, (Budget("params", 2_000_000), Budget("macs", 5)))
    assert [type(made.evals), type(made.share)] == [int, float]
    with pytest.raises(NasError, match=r"^evals must be a whole number; got '3'$"):
        Example(evals="3")
    with pytest.raises(NasError, match=r"^share must be a finite number in 0\.\.; got -1"):
        replace(made, share=-1)


def test_paths_and_tuples_round_trip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Files.from_dict({"folder": "new", "seeds": [1, 2], "rates": [1, 0.5]})
    assert made == Files(Path("new"), (1, 2), (1.0, 0.5))
    assert made.to_dict() == {"folder": str(tmp_path / "new"), "seeds": [1, 2], "rates": [1.0, 0.5], "labels": []}
    assert Files.from_dict(made.to_dict()) == replace(made, folder=tmp_path / "new")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "^missing setting 'folder'$"),
        ({"folder": 3}, "^folder must be a path; got 3$"),
        ({"folder": "a", "seeds": [0, -1]}, r"^seeds must be a finite number in 0\.\.; got -1$"),
        ({"folder": "a", "seeds": [0, "1"]}, "^seeds must be a whole number; got '1'$"),
        ({"folder": "a", "rates": 0.5}, "^rates must be a list; got 0.5$"),
    ],
)
def test_without_a_source_the_message_is_the_rule_alone(values, message):
    with pytest.raises(NasError, match=message):
        Files.from_dict(values)


def test_what_a_parser_refuses_names_the_file():
    with pytest.raises(NasError, match=r"^run\.toml: a budget is an upper limit, written with <="):
        Example.from_dict({"budgets": ["params<3"]}, "run.toml")


def test_the_default_of_a_setting_is_checked_too():
    @dataclass(frozen=True)
    class Wrong(Settings):
        evals: int = option(1.5)

    with pytest.raises(NasError, match="evals must be a whole number"):
        Wrong()
