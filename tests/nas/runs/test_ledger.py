from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest

from nas import Evaluation, Ledger
from nas.runs.ledger import read_ledger
from nas.testing.worlds import evaluation, tiny_space
from search_spaces import RunError

SUBNETS = list(tiny_space())


def filled(path, count=4):
    ledger = Ledger(path)
    ledger.append([evaluation(i, SUBNETS[i], i / 10, 100 + i) for i in range(count - 1)])
    ledger.append([evaluation(count - 1, SUBNETS[count - 1], None, status="failed", error="score is NaN")])
    ledger.close()
    return ledger.evaluations


def reopened(path):
    ledger = Ledger(path)
    ledger.close()
    return ledger.evaluations


def test_an_evaluation_survives_its_json():
    for original in (evaluation(3, SUBNETS[3], 0.1 + 0.2, 10**18), evaluation(0, SUBNETS[0], None, status="failed")):
        assert Evaluation.from_dict(json.loads(json.dumps(original.to_dict()))) == original
        assert "origin" not in original.to_dict()
        known = replace(original, origin="optuna: trial 3 of mine")
        assert Evaluation.from_dict(json.loads(json.dumps(known.to_dict()))) == known
        with pytest.raises(ValueError, match="its origin is 3"):
            Evaluation.from_dict({**known.to_dict(), "origin": 3})


def test_what_was_appended_is_there_when_reopened(tmp_path):
    path = tmp_path / "ledger.jsonl"
    written = filled(path)
    assert reopened(path) == read_ledger(path) == written
    assert len(path.read_text().splitlines()) == 4


def test_a_torn_last_line_is_cut_at_every_byte(tmp_path):
    path = tmp_path / "ledger.jsonl"
    written = filled(path)
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for cut in range(1, len(last) + 1):
        path.write_bytes(whole[:-cut])
        kept = written if cut == 1 else written[:-1]  # only the newline lost: the line is whole
        assert read_ledger(path) == kept
        assert path.read_bytes() == whole[:-cut], "reading changes nothing"
        assert reopened(path) == kept
        assert path.read_bytes() == (whole if cut == 1 else whole[: -len(last)])


def test_a_last_line_of_zeros_after_a_power_cut_is_cut(tmp_path):
    path = tmp_path / "ledger.jsonl"
    written = filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100)
    assert reopened(path) == written
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: [lines[0], lines[1][:-9], *lines[2:]], "line 2 .* is broken"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 .* index is 2, and should be 1"),
        (lambda lines: [*lines[:2], lines[1].replace('"index":1', '"index":2'), lines[3]], "line 3 .* a second time"),
        (lambda lines: [lines[0].replace('"embed_dim":128', '"embed_dim":192'), *lines[1:]], "line 1 .* id is"),
        (lambda lines: ['{"a":1}', *lines[1:]], "line 1 .* not an evaluation"),
        (lambda lines: ["[]", *lines[1:]], "line 1 .* not an evaluation"),
        (lambda lines: [lines[0].replace('"ok"', '"fine"'), *lines[1:]], "line 1 .* not an evaluation"),
        (lambda lines: [lines[0].replace('"ok"', '"failed"'), *lines[1:]], "line 1 .* a score when its status is ok"),
        (lambda lines: [lines[0].replace('"score":0.0', '"score":"0.9"'), *lines[1:]], "line 1 .* its score is '0.9'"),
        (lambda lines: [lines[0].replace('"score":0.0', '"score":NaN'), *lines[1:]], "line 1 .* not a finite number"),
        (lambda lines: [lines[0].replace('"params":100', '"params":[]'), *lines[1:]], r"line 1 .* its params is \[\]"),
        (lambda lines: [lines[0].replace('"params":100', '"macs":100'), *lines[1:]], "line 1 .* it has no params"),
        (lambda lines: [lines[0].replace('"seconds":0.0', '"seconds":[]'), *lines[1:]], "line 1 .* its seconds is"),
    ],
)
def test_a_broken_line_in_the_middle_is_named_and_nothing_is_changed(tmp_path, change, says):
    path = tmp_path / "ledger.jsonl"
    filled(path)
    unsealed = re.sub(r',"crc":"\w+"', "", path.read_text())  # or the checksum alone would tell
    broken = "\n".join(change(unsealed.splitlines())) + "\n"
    path.write_text(broken)
    with pytest.raises(RunError, match=says):
        Ledger(path, costs=["params"])
    assert path.read_text() == broken


def test_blank_lines_are_passed_over(tmp_path):
    path = tmp_path / "ledger.jsonl"
    written = filled(path)
    path.write_text("\n" + path.read_text().replace("\n", "\n\n"))
    assert read_ledger(path) == reopened(path) == written


def test_a_subnet_enters_once():
    ledger = Ledger()
    ledger.append([evaluation(0, SUBNETS[0])])
    with pytest.raises(RunError, match="proposed twice"):
        ledger.append([evaluation(1, SUBNETS[0])])


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(RunError, match="cannot open ledger"):
        Ledger(tmp_path / "missing" / "ledger.jsonl")


def lines_of(path):
    return path.read_text().splitlines(keepends=True)


def written(tmp_path, count=3):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append([evaluation(i, subnet, 0.5 + i) for i, subnet in enumerate(list(tiny_space())[:count])])
    ledger.close()
    return path


def test_a_changed_digit_is_noticed(tmp_path):
    path = written(tmp_path)
    path.write_text(path.read_text().replace('"score":1.5', '"score":1.6'))
    with pytest.raises(RunError, match=r"line 2 of .* its checksum .* is not that of the line"):
        Ledger(path)


def test_lines_of_earlier_versions_have_no_checksum_and_are_read(tmp_path):
    path = written(tmp_path)
    old = [json.loads(line) for line in lines_of(path)]
    for fields in old:
        del fields["crc"]
    path.write_text("".join(json.dumps(fields) + "\n" for fields in old))
    assert len(read_ledger(path)) == 3


def test_blank_lines_are_no_damage(tmp_path):
    path = written(tmp_path)
    first, *rest = lines_of(path)
    path.write_text("\n" + first + "\n \n" + "".join(rest) + "\n")
    assert len(read_ledger(path)) == 3
    ledger = Ledger(path)
    ledger.append([evaluation(3, list(tiny_space())[3])])
    ledger.close()
    assert len(read_ledger(path)) == 4


@pytest.mark.parametrize("how", ["delete", "replace", "folder"])
def test_a_ledger_that_goes_away_during_a_search_is_noticed(tmp_path, how):
    path = tmp_path / "run" / "ledger.jsonl"
    path.parent.mkdir()
    ledger = Ledger(path)
    ledger.append([evaluation(0, tiny_space().smallest)])
    if how == "folder":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    if how == "replace":
        path.write_text("")
    with pytest.raises(RunError, match="was deleted or replaced during the search; 1 evaluations are no longer"):
        ledger.append([evaluation(1, tiny_space().largest)])


@pytest.mark.parametrize("line", ["[]", "3", '"x"', "null", '{"index":0}', "[" * 2000 + "]" * 2000])
def test_lines_that_are_no_evaluation_are_one_error(tmp_path, line):
    path = written(tmp_path)
    path.write_text(line + "\n" + path.read_text())
    with pytest.raises(RunError, match="line 1 of"):
        read_ledger(path)
