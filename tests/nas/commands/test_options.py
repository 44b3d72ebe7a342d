"""Options made from settings: types, files, what was given, and options that would have no effect."""

import json
from dataclasses import dataclass, replace

import pytest
import typer
from typer.testing import CliRunner

from nas.commands.options import Given, flag_of, verb
from search_spaces import Budget, NasError
from search_spaces.settings import Option, Settings, option
from tests.nas.commands.helpers import nas


@dataclass(frozen=True)
class Cooking(Settings):
    dish: str = option("soup", "What to cook.", group="Food", names=lambda: ["soup", "stew"])
    limits: tuple[Budget, ...] = option((), "Limits.", flag="--limit", parse=Budget.parse)
    spices: tuple[str, ...] = option(("salt",), "Spices [of any kind].")
    minutes: float = option(20.0, "How long.", minimum=1)
    lid: bool = option(False, "With a lid.", needs="pot")
    pot: str | None = option(None, "Which pot.")
    pan: str | None = option(None, "Which pan.", conflicts="pot")


def run(*arguments, config=True, without=()):
    """What the command received, or its exception, and what it printed."""
    app, received = typer.Typer(), []

    @verb(app, example="cook --dish stew", config=config, without=without)
    def cook(cooking: Cooking, given: Given, quick: bool = False) -> None:
        """Cook."""
        received.append((cooking, given, quick))

    outcome = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return (received[0] if received else None), outcome


def test_defaults_are_those_of_the_dataclass():
    (cooking, given, quick), _ = run()
    assert cooking == Cooking()
    assert given == set()
    assert quick is False


def test_values_are_parsed_and_known_to_be_given():
    (cooking, given, quick), _ = run("--limit", "params<=2M", "--spices", "dill", "--spices", "chili", "--quick")
    assert cooking == replace(Cooking(), limits=(Budget("params", 2_000_000),), spices=("dill", "chili"))
    assert {"limits", "spices"} <= given
    assert quick is True


def test_a_bad_value_is_one_clear_error():
    with pytest.raises(NasError, match="written with <="):
        run("--limit", "params<2M")
    assert run("--minutes", "0.5")[1].exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lid",), "--lid has no effect without --pot: give --pot too, or leave --lid out"),
        (("--pan", "a", "--pot", "b"), "--pan has no effect with --pot: give one of the two"),
    ],
)
def test_options_without_effect_are_refused(arguments, message):
    with pytest.raises(NasError, match=message):
        run(*arguments)


def test_an_option_that_is_switched_off_needs_no_partner():
    (cooking, _, _), _ = run("--no-lid")
    assert cooking == Cooking()


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_file_gives_settings_and_options_override_it(tmp_path, suffix):
    file = tmp_path / f"meal{suffix}"
    values = {"dish": "stew", "minutes": 3, "limits": ["params<=1M"], "pot": "red"}
    toml = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    file.write_text(json.dumps(values) if suffix == ".json" else toml)
    (cooking, given, _), _ = run("--config", str(file), "--minutes", "5", "--lid")
    assert cooking == Cooking("stew", (Budget("params", 1_000_000),), minutes=5.0, lid=True, pot="red")
    assert {"dish", "minutes", "limits", "pot", "lid"} == given


def test_partners_are_looked_for_in_files_too(tmp_path):
    (tmp_path / "a.toml").write_text("lid = true\n")
    with pytest.raises(NasError, match="--lid has no effect without --pot"):
        run("--config", str(tmp_path / "a.toml"))


def test_what_is_printed_is_read_back(tmp_path):
    arguments = ("--dish", 'a "quoted"\tdish \\ é', "--limit", "macs<=1.5", "--pot", "[red]")
    _, outcome = run(*arguments, "--print-config")
    file = tmp_path / "printed.toml"
    file.write_text(outcome.stdout, encoding="utf-8")
    assert run("--config", str(file))[0][0] == run(*arguments)[0][0]


def test_a_printed_default_needs_no_partner(tmp_path):
    """--cpus-per-actor has a default and needs --ray: what is printed with it must still be read."""
    printed = tmp_path / "printed.toml"
    printed.write_text(nas("search", "--print-config").stdout)
    again = nas("search", "--config", printed, "--print-config")
    assert again.stderr == ""
    assert again.stdout == printed.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dihs = 'soup'", r"a\.toml: unknown setting 'dihs'; did you mean dish\?"),
        ("minutes = 'long'", r"a\.toml: minutes must be a number; got 'long'"),
        ("minutes = 0", r"minutes must be a finite number in 1\.\.; got 0"),
        ("spices = 'salt'", r"a\.toml: spices must be a list"),
        ("dish = ", r"a\.toml is not TOML"),
        ("pot = 1", r"a\.toml: pot must be text; got 1"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(NasError, match=message):
        run("--config", str(tmp_path / "a.toml"))


def test_files_that_are_missing_or_no_tables_are_refused(tmp_path):
    with pytest.raises(NasError, match=r"cannot read .*missing"):
        run("--config", str(tmp_path / "missing.toml"))
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(NasError, match="must hold a table of settings; got a list"):
        run("--config", str(tmp_path / "a.json"))
    (tmp_path / "b.json").write_text("[" * 100_000)
    with pytest.raises(NasError, match="is not JSON"):
        run("--config", str(tmp_path / "b.json"))


def test_a_run_json_is_a_settings_file(tmp_path):
    record = {"settings": {"dish": "stew", "calibrations": {}, "command": "nas"}, "seed": 0}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert run("--config", str(tmp_path / "run.json"))[0][0].dish == "stew"


def test_help_has_groups_names_and_an_example():
    _, outcome = run("--help")
    assert "Food" in outcome.stdout
    assert "What to cook. One of soup, stew." in outcome.stdout
    assert "Spices [of any kind]." in outcome.stdout
    assert "Example: cook --dish stew" in outcome.stdout


def test_settings_that_are_left_out_are_no_options(tmp_path):
    _, outcome = run("--pot", "b", without=("pot",))
    assert outcome.exit_code == 2
    assert run(without=("pot",))[0][0] == Cooking()
    (tmp_path / "a.toml").write_text("pot = 'red'\n")
    with pytest.raises(NasError, match="unknown setting 'pot'"):
        run("--config", str(tmp_path / "a.toml"), without=("pot",))


def test_of_two_settings_with_one_name_the_first_is_the_option():
    @dataclass(frozen=True)
    class Many(Settings):
        dish: tuple[str, ...] = option((), "Dishes.")

    app, received = typer.Typer(), []

    @verb(app, example="cook")
    def cook(many: Many, cooking: Cooking) -> None:
        """Cook."""
        received.append((many, cooking))

    CliRunner().invoke(app, ["--dish", "a", "--dish", "b"])
    assert received == [(Many(("a", "b")), Cooking())]


def test_required_settings_come_from_an_option_or_a_file(tmp_path):
    @dataclass(frozen=True)
    class Needed(Settings):
        dish: str = option(help="Dish.")

    app, received = typer.Typer(), []

    @verb(app, example="cook", config=True)
    def cook(needed: Needed) -> None:
        """Cook."""
        received.append(needed)

    (tmp_path / "a.toml").write_text("dish = 'x'\n")
    CliRunner().invoke(app, ["--config", str(tmp_path / "a.toml")])
    CliRunner().invoke(app, ["--dish", "y"])
    assert received == [Needed("x"), Needed("y")]
    assert "missing option --dish" in str(CliRunner().invoke(app, []).exception)


def test_flags():
    assert flag_of("macs_seconds", Option()) == "--macs-seconds"
    assert flag_of("macs_seconds", Option(flag="--seconds")) == "--seconds"
