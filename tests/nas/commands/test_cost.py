"""`nas cost`."""

import json

from evaluators.costs import macs, params
from search_spaces import get_space
from tests.nas.commands.helpers import nas


def test_costs_of_the_largest_are_those_of_the_tables():
    done = nas("cost", "--seconds", 1, "--json")
    assert done.returncode == 0, done.stderr
    record, space = json.loads(done.stdout), get_space("hubert-tiny")
    assert record["params"] == params(space).of(space.largest)
    assert record["params_exported"] == params(space, "exported").of(space.largest)
    assert record["macs"] == macs(space, 1.0).of(space.largest)
    assert record["latency_ms"] > 0
    assert len(record["counters"]) >= 2
