"""`nas convert`."""

from supernet import load_supernet
from tests.nas.commands.helpers import nas
from tests.supernet.families import saved


def test_a_trained_supernet_stays_what_it_was(tmp_path):
    done = nas("convert", "hubert-tiny", "--out", tmp_path / "sorted")
    assert done.returncode == 0, done.stderr
    assert "as its subnets were trained" in done.stdout
    assert load_supernet(tmp_path / "sorted").space == load_supernet("hubert-tiny").space
    again = nas("convert", "hubert-tiny", "--out", tmp_path / "sorted")
    assert again.returncode == 2
    assert "is not an empty folder" in again.stderr


def test_the_width_becomes_elastic(tmp_path, manifest):
    saved("xls-r", tmp_path / "theirs")
    done = nas("convert", tmp_path / "theirs", "--audio", manifest, "--rotate", "--out", tmp_path / "ours")
    assert done.returncode == 0, done.stderr
    assert "the largest subnet equals the model" in done.stdout
    model = load_supernet(tmp_path / "ours")
    assert (model.space.network.rotated, model.compensation) == (True, "regression")
    assert len(model.space.embed_dims) == 5


def test_what_stays_of_dropped_units_can_be_their_mean(tmp_path, manifest):
    saved("hubert-base", tmp_path / "theirs")
    source = tmp_path / "theirs"
    done = nas("convert", source, "--audio", manifest, "--compensation", "mean", "--out", tmp_path / "ours")
    assert done.returncode == 0, done.stderr
    assert "ordered: yes" in done.stdout
    assert load_supernet(tmp_path / "ours").compensation == "mean"
    for arguments, said in (
        (("--audio", manifest, "--compensation", "median"), "must be one of none, mean, regression; got 'median'"),
        (("--compensation", "mean"), "--compensation has no effect without --audio"),
    ):
        done = nas("convert", source, *arguments, "--out", tmp_path / "other")
        assert done.returncode == 2, done.stderr
        assert said in done.stderr


def test_what_cannot_be_rotated_is_one_line(tmp_path, manifest):
    saved("hubert-base", tmp_path / "theirs")
    for arguments, said in (
        (("--rotate",), "--rotate needs speech on which importance is measured"),
        (("--audio", manifest, "--rotate"), "only networks with norms first"),
        (("--audio", manifest, "--rotate", "--space", "fine"), "only layers with norms first"),
    ):
        done = nas("convert", tmp_path / "theirs", *arguments, "--out", tmp_path / "ours")
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
