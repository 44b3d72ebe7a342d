"""Atomic files: a reader sees the old one or the new one, never part of either."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import search_spaces
from search_spaces import NasError, RunError
from search_spaces.files import (
    cache_folder,
    new_folder,
    read_bytes,
    read_text,
    replacing,
    write_bytes,
    write_json,
    write_text,
)

ROOT = Path(search_spaces.__file__).parents[1]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_the_block_writes_replaces_the_file(tmp_path):
    file = tmp_path / "new" / "a.bin"
    with replacing(file) as temporary:
        temporary.write_bytes(b"1")
        assert not file.exists()
    assert file.read_bytes() == b"1"
    write_bytes(file, b"2")
    assert (file.read_bytes(), names(file.parent)) == (b"2", ["a.bin"])


def test_a_block_that_raises_leaves_the_old_file_alone(tmp_path):
    file = tmp_path / "a"
    write_text(file, "old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), replacing(file) as temporary:  # noqa: PT012 - the block is what raises
            temporary.write_text("half")
            raise error
    assert (file.read_text(), names(tmp_path)) == ("old", ["a"])


def test_a_temporary_file_of_a_killed_process_is_no_obstacle(tmp_path):
    (tmp_path / ".a.tmp").write_text("left behind")
    write_text(tmp_path / "a", "new")
    assert (names(tmp_path), (tmp_path / "a").read_text()) == (["a"], "new")


def test_shared_files_have_a_temporary_name_for_each_process(tmp_path):
    with replacing(tmp_path / "a", shared=True) as temporary:
        assert str(os.getpid()) in temporary.name
        temporary.write_text("x")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask_whatever_the_writer_used(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "a") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600))  # as safetensors does
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_a_full_disk_is_one_line_with_the_files_name(tmp_path):
    code = (
        "import resource, signal, sys; from search_spaces.files import write_bytes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_bytes(sys.argv[1], b'x' * 2000)\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"cannot write {tmp_path / 'a'}: File too large\n"
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NasError, match=f"cannot write {tmp_path / 'file' / 'a'}: "):
        write_text(tmp_path / "file" / "a", "x")


def test_json_is_indented_and_finite(tmp_path):
    write_json(tmp_path / "a.json", {"é": [1, Path("x")]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"é": [1, "x"]}
    with pytest.raises(NasError, match="numbers must be finite"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert names(tmp_path) == ["a.json"]


def test_the_cache_is_where_xdg_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "lighthubert-nas"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "lighthubert-nas"


def test_shared_writes_of_one_process_do_not_meet(tmp_path):
    with replacing(tmp_path / "a", shared=True) as first, replacing(tmp_path / "a", shared=True) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (names(tmp_path), (tmp_path / "a").read_text()) == (["a"], "first")  # the last to end


def test_the_mode_of_a_left_behind_file_does_not_matter(tmp_path):
    (tmp_path / ".a.tmp").touch(mode=0o600)
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def test_an_error_about_another_file_names_it(tmp_path):
    missing = tmp_path / "source"
    with pytest.raises(NasError) as caught, replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(missing.read_bytes())
    assert str(caught.value) == f"cannot write {tmp_path / 'a'}: No such file or directory: {missing}"
    assert names(tmp_path) == []


def test_a_folder_in_the_place_of_the_file_is_one_line(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(NasError) as caught:
        write_text(tmp_path / "a", "x")
    assert str(caught.value) == f"cannot write {tmp_path / 'a'}: Is a directory"
    assert names(tmp_path) == ["a"]


def test_numpys_numbers_are_numbers_in_json(tmp_path):
    write_json(tmp_path / "a.json", [np.int64(3), np.float32(0.5), np.float64(0.25), np.bool_(True)])
    assert json.loads((tmp_path / "a.json").read_text()) == [3, 0.5, 0.25, True]
    with pytest.raises(NasError, match="numbers must be finite"):
        write_json(tmp_path / "a.json", [np.float32("inf")])


# -------------------------------------------------------------------- reading


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="is not a regular file"):
            read_bytes(place)
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfgr\xc3\xbcn")
    assert read_text(tmp_path / "text") == "grün"


def test_files_beyond_all_measure_are_refused_before_they_are_read(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate((1 << 32) + 1)
    with pytest.raises(OSError, match="larger than 4 GiB"):
        read_bytes(tmp_path / "sparse")


# -------------------------------------------------------------------- folders, links, devices


def test_a_folder_is_whole_or_not_there(tmp_path):
    with new_folder(tmp_path / "a" / "b") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "x").read_text() == "1"

    def fails():
        with new_folder(tmp_path / "c") as folder:
            (folder / "x").write_text("1")
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_process_left_behind_is_replaced(tmp_path):
    (tmp_path / ".c.partial").mkdir()
    (tmp_path / ".c.partial" / "old").write_text("")
    (tmp_path / "c").mkdir()  # an empty folder is as good as none
    with new_folder(tmp_path / "c") as folder:
        (folder / "new").write_text("")
    assert [path.name for path in tmp_path.rglob("*")] == ["c", "new"]


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_a_folder_that_holds_something_is_never_replaced(tmp_path, what):
    place = tmp_path / "c"
    if what == "file":
        place.write_text("mine")
    elif what == "link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.mkdir()
        (place / "mine").write_text("")
    with pytest.raises(RunError, match="is not an empty folder"), new_folder(place):
        pytest.fail("was entered")


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(NasError, match="it exists, and is not a file"):
            write_text(place, "x")
