from __future__ import annotations

import json

import pytest

import nas
from evaluators.scores import synthetic
from nas.report.summary import summary
from nas.runs.mirror import Mirror, fetched, is_url, read_file, write_file
from nas.testing.worlds import tiny_space
from search_spaces import RunError

SPACE = tiny_space()
SCORE = synthetic(SPACE, seed=1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def url(tmp_path):
    return f"file://{tmp_path}/bucket/run"


def searched(url, evals, resume=False):
    with Mirror(url) as mirror:
        options = {"searcher": "random", "batch": 4, "callbacks": [lambda evaluations: mirror.sync()]}
        return nas.search(SPACE, SCORE, evals=evals, out=mirror.folder, resume=resume, **options)


def test_a_path_is_its_own_folder(tmp_path):
    with Mirror(tmp_path / "run") as mirror:
        assert mirror.folder == tmp_path / "run"
    assert fetched(tmp_path, tmp_path / "unused") == tmp_path
    assert not is_url(tmp_path)
    assert not (tmp_path / "unused").exists()


def test_a_run_at_a_url_goes_on_from_another_machine(url, tmp_path, monkeypatch):
    searched(url, 8)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    result = searched(url, 16, resume=True)
    lines = read_file(url, "ledger.jsonl").decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [e.subnet.id for e in result.evaluations]
    assert len({json.loads(line)["id"] for line in lines}) == 16
    assert json.loads(read_file(url, "best.json"))["score"] == result.best.score
    assert summary(fetched(url, tmp_path / "copy"))["counts"]["proposed"] == 16


def test_what_was_not_copied_before_a_crash_is_still_in_the_working_copy(url):
    searched(url, 8)
    snapshot = read_file(url, "ledger.jsonl")
    write_file(url, "ledger.jsonl", snapshot[: snapshot.rfind(b"\n", 0, -1) + 1])  # as of a second earlier
    assert len(searched(url, 8, resume=True).evaluations) == 8
    assert read_file(url, "ledger.jsonl") == snapshot


def test_two_machines_that_went_different_ways_are_told_apart(url):
    searched(url, 8)
    first, second, *rest = read_file(url, "ledger.jsonl").splitlines(keepends=True)
    write_file(url, "ledger.jsonl", second + first + b"".join(rest))
    with pytest.raises(RunError, match="hold different evaluations"):
        searched(url, 16, resume=True)


def test_a_torn_line_is_not_copied(url):
    with Mirror(url) as mirror:
        mirror.folder.mkdir(parents=True, exist_ok=True)
        (mirror.folder / "ledger.jsonl").write_bytes(b'{"whole": 1}\n{"torn')
    assert read_file(url, "ledger.jsonl") == b'{"whole": 1}\n'


@pytest.mark.parametrize("place", ["nowhere://bucket/run", "file:///proc/none/run"])
def test_storage_that_cannot_be_used_is_one_line(place):
    with pytest.raises(RunError, match=r"cannot use|cannot write") as caught:
        searched(place, 4)
    assert "\n" not in str(caught.value)
