"""Arrays on disk: complete, by name, and shared by several processes."""

import numpy as np
import pytest

from supernet.store import FrameStore


def array(frames, value):
    return np.full((frames, 2, 3), value, np.float16)


def test_stored_arrays_are_read_back(tmp_path):
    store = FrameStore(tmp_path, (2, 3))
    store.add("a", array(4, 1))
    store.add("b", array(1, 2))
    again = FrameStore(tmp_path, (2, 3))
    assert np.array_equal(again["b"], array(1, 2))
    assert again.frames("a") == 4
    assert "c" not in again


@pytest.mark.parametrize("torn", [5, 30])
def test_an_incomplete_end_is_dropped(tmp_path, torn):
    store = FrameStore(tmp_path, (2, 3))
    store.add("a", array(4, 1))
    store.add("b", array(1, 2))
    index = tmp_path / "index.jsonl"
    index.write_bytes(index.read_bytes()[:-torn] if torn == 5 else index.read_bytes())
    data = tmp_path / "frames.f16"
    data.write_bytes(data.read_bytes()[:-1] if torn == 30 else data.read_bytes())
    again = FrameStore(tmp_path, (2, 3))
    assert "b" not in again
    again.add("b", array(2, 3))
    assert np.array_equal(FrameStore(tmp_path, (2, 3))["a"], array(4, 1))
    assert np.array_equal(FrameStore(tmp_path, (2, 3))["b"], array(2, 3))


def test_two_users_of_one_store_do_not_mix_their_arrays(tmp_path):
    one, two = FrameStore(tmp_path, (2, 3)), FrameStore(tmp_path, (2, 3))
    one.add("a", array(4, 1))
    two.add("b", array(3, 2))
    two.add("a", array(4, 9))
    one.add("c", array(2, 3))
    for store in (one, FrameStore(tmp_path, (2, 3))):
        assert np.array_equal(store["a"], array(4, 1))
        assert np.array_equal(store["b"], array(3, 2))
        assert np.array_equal(store["c"], array(2, 3))
