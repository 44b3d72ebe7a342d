"""Damaged files of every kind: a short, seeded run of `make fuzz`."""

import pytest

from tests.faults.fuzz import CASES, build, trial

TRIALS = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "files"
    folder.mkdir()
    build(folder)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_refused_in_one_line_or_read(files, name):
    faults = [fault for seed in range(TRIALS) if (fault := trial(name, files, seed))]
    assert not faults
