"""What commands print and read."""

import io
import json

import pytest
from rich.console import Console

from nas.commands import console
from nas.commands.console import TrainingProgress, counting, print_json, read_json, read_text, table
from search_spaces import NasError, RunError


@pytest.fixture
def stderr(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=stream, width=100, markup=False))
    return stream


def test_json_is_printed_as_it_is(capsys):
    print_json({"name": "[red]é" + "x" * 300})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"name": "[red]é" + "x" * 300}


def test_tables_show_user_text_and_no_markup():
    stream = io.StringIO()
    shown = table("[bold]t[/bold]", ("name", "ms"), numeric=("ms",))
    shown.add_row("[/red]", "1")
    Console(file=stream, width=60, markup=False).print(shown)
    assert "[bold]t[/bold]" in stream.getvalue()
    assert "[/red]" in stream.getvalue()
    assert [column.justify for column in shown.columns] == ["left", "right"]


def test_files_are_read_with_a_byte_order_mark_or_named_in_the_error(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfx")
    assert read_text(tmp_path / "a") == "x"
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    for name in ("b", "missing", "."):
        with pytest.raises(NasError, match=f"cannot read {tmp_path / name}"):
            read_text(tmp_path / name)


def test_json_files_hold_objects(tmp_path):
    file = tmp_path / "best.json"
    with pytest.raises(RunError, match=r"no .*best\.json: nothing here"):
        read_json(file, "nothing here")
    for text, message in (("[1]", "must hold a JSON object; got a list"), ("{", "cannot read"), ("[" * 9**5, "read")):
        file.write_text(text)
        with pytest.raises(RunError, match=message):
            read_json(file, "nothing here")
    file.write_text('{"a": 1}')
    assert read_json(file, "") == {"a": 1}


def test_training_prints_validations(stderr):
    with TrainingProgress() as progress:
        progress({"targets": "dev", "seconds": 3.0, "of": 9.0})
        progress({"stage": 1, "steps": 4})
        progress({"step": 0, "loss": 1.5})
        progress({"step": 1, "dev": {"largest": [0.5, 0.7], "smallest": [1.0]}})
    assert "step 1: dev teacher distance: largest 0.600, smallest 1.000" in stderr.getvalue()


def test_only_the_first_process_of_a_training_shows_a_bar(stderr, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with TrainingProgress() as progress:
        progress({"stage": 1, "steps": 4})
    assert stderr.getvalue() == ""


def test_counting_takes_how_many_of_how_many(stderr):
    with counting("measuring") as done:
        done(1, 3)
    assert stderr.getvalue() == ""
