"""Settings: one description for Python, files and the command line."""

from dataclasses import dataclass, fields
from pathlib import Path

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
