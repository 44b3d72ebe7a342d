import pytest

from supernet.audio import read_manifest
from supernet.teacher import TargetCache, load_teacher
from supernet.training.batches import TrainingData
from supernet.training.goal import HeadTargets
from tests.nas.commands.helpers import nas
from tests.supernet.training.helpers import curve, heard, space_toml


@pytest.fixture
def data(small_space, corpus, teacher_folder, tmp_path):
    """The corpus with the targets of the small teacher."""
    train, dev = read_manifest(corpus, "train"), read_manifest(corpus, "dev")
    cache = TargetCache(tmp_path / "targets", load_teacher(teacher_folder), small_space.network.frames)
    cache.fill([*train, *dev])
    return TrainingData(train, dev, HeadTargets.of(cache, train), heard)


@pytest.fixture(scope="module")
def command(small_space, corpus, teacher_folder, tmp_path_factory):
    """Arguments of `nas train`, and the losses of one process that runs them."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "space.toml").write_text(space_toml(small_space))
    arguments = [
        "train", "--teacher", str(teacher_folder), "--audio", str(corpus), "--space", str(folder / "space.toml"),
        "--stage1-steps", "5", "--stage2-steps", "9", "--batch-seconds", "3", "--precision", "fp32",
        "--mask-from", "0.3",
    ]  # fmt: skip
    assert nas(*arguments, "--out", folder).returncode == 0
    return arguments, curve(folder)
