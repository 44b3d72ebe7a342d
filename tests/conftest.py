"""What every test has: a cache folder of its own, and commands that SIGINT can interrupt."""

import signal

import pytest

pytest.register_assert_rewrite("nas.testing")


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    """Shells start background jobs with SIGINT ignored, and commands under test would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
