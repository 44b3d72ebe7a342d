"""`nas convert`."""

from supernet import load_supernet
from tests.nas.commands.helpers import nas


def test_a_supernet_is_put_in_order_and_stays_what_it_was(tmp_path):
    done = nas("convert", "hubert-tiny", "--out", tmp_path / "sorted")
    assert done.returncode == 0, done.stderr
    assert "ordered: yes" in done.stdout
    assert load_supernet(tmp_path / "sorted").space == load_supernet("hubert-tiny").space
    again = nas("convert", "hubert-tiny", "--out", tmp_path / "sorted")
    assert again.returncode == 2
    assert "is not an empty folder" in again.stderr
