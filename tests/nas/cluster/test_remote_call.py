"""Calls on nodes with a named resource."""

from __future__ import annotations

import pytest

from evaluators.scores import synthetic
from nas.cluster.remote_call import call_on
from nas.executors.ray import RayExecutor
from nas.testing.worlds import tiny_space
from search_spaces import NasError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


SPACE = tiny_space()


SCORE = synthetic(SPACE, seed=1)


SMALL = {"cpus": 0.1}


def resources_of(call):
    """What the node's scheduler gave to this call."""
    import ray

    if call == "broken":
        raise NasError("the device is broken")
    return call, dict(ray.get_runtime_context().get_assigned_resources())


def test_calls_run_where_the_resource_is(cluster):
    with RayExecutor(SCORE, actors=1, **SMALL):
        assert call_on("device", False, resources_of, "measure") == ("measure", {"device": 1.0})
        with pytest.raises(NasError, match="the device is broken"):
            call_on("device", False, resources_of, "broken")
        with pytest.raises(NasError, match="1 x 1 jetson asked for, and the cluster has 0 on 2 nodes"):
            call_on("jetson", False, resources_of, "measure")
