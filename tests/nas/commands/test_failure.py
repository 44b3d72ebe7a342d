"""Errors that are a user's end in one line; others keep their traceback."""

import pytest
import typer

from nas.commands.failure import explained
from search_spaces import InfeasibleError, NasError
from tests.nas.commands.helpers import nas


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (NasError("evals must be\na number"), "evals must be a number", 2),
        (InfeasibleError("too small"), "too small", 3),
        (FileNotFoundError(2, "No such file or directory", "a.json"), "No such file or directory (a.json)", 2),
        (typer.BadParameter("x is no number."), "Invalid value: x is no number (try nas --help)", 2),
    ],
)
def test_a_mistake_is_one_line_and_a_status(error, line, status):
    assert explained(error) == (line, status)


def test_a_bug_is_raised_again():
    with pytest.raises(ValueError, match="bug"):
        explained(ValueError("bug"))


@pytest.mark.parametrize("group", [(), ("latency",)])
def test_a_group_alone_prints_its_help_and_nothing_else(group):
    done = nas(*group)
    assert (done.returncode, done.stderr) == (2, "")
    assert "Usage: nas" in done.stdout
