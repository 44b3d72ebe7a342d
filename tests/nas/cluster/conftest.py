"""Speech, a teacher and a space for training on a cluster."""

from tests.supernet.conftest import corpus, small_space, teacher_folder  # noqa: F401 - fixtures
from tests.supernet.training.conftest import command  # noqa: F401 - fixture
