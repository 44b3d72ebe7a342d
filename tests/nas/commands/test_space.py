"""`nas space`."""

import json

import pytest

from tests.nas.commands.helpers import nas


def test_a_space_is_counted():
    shown = json.loads(nas("space", "lighthubert-small", "--budget", "params<=13.1M", "--json").stdout)
    assert shown["size"] == 951_892_141_473
    assert shown["fits"] / shown["size"] == pytest.approx(0.00086, abs=1e-5)  # measured by drawing, too: FACTS
