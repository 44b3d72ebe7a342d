import pytest

from supernet.audio import read_manifest
from supernet.teacher import TargetCache, load_teacher
from supernet.training.batches import StandardTargets, TrainingData


@pytest.fixture
def data(small_space, corpus, teacher_folder, tmp_path):
    """The corpus with the targets of the small teacher."""
    train, dev = read_manifest(corpus, "train"), read_manifest(corpus, "dev")
    cache = TargetCache(tmp_path / "targets", load_teacher(teacher_folder), small_space.network.frames)
    cache.fill([*train, *dev])
    return TrainingData(train, dev, StandardTargets.of(cache, train))
