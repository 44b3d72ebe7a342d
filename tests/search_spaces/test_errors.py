"""Every error a user can cause is one kind of ValueError, with an exit status."""

import pytest

from search_spaces import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_exit_statuses_are_those_of_the_docstring(name):
    kind = getattr(errors, name)
    status = {"InfeasibleError": 3, "CheckFailed": 4, "IdentityError": 4}.get(name, 2)
    assert issubclass(kind, errors.NasError)
    assert issubclass(kind, ValueError)
    assert kind.exit_status == status
    (line,) = (line for line in errors.__doc__.splitlines() if name in line)
    assert f" {status} " in line
