"""A real Ray cluster of several nodes."""

import os

import pytest


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of two cores; the second has a `device`."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_local_fs_capacity_threshold": "0.01"}
    store = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **store})
    cluster.add_node(num_cpus=2, resources={"device": 1}, **store)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def without_uniform(monkeypatch):
    """Searchers alone: in additive worlds uniform subnets, which every search evaluates, are nearly the best."""
    monkeypatch.setattr("nas.uniform.candidates", lambda feasible: [])
