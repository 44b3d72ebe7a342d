"""Connecting to clusters, and the errors if there is none to connect to."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

import nas.executors.ray as ray_executor
from evaluators.scores import synthetic
from nas.cluster.connection import connected
from nas.executors.ray import RayExecutor
from nas.testing.worlds import tiny_space
from search_spaces import NasError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


SPACE = tiny_space()


SUBNETS = list(SPACE)[:40]


SCORE = synthetic(SPACE, seed=1)


SMALL = {"cpus": 0.1}


def outcomes(executor, subnets=SUBNETS):
    return [outcome for chunk in executor.run(subnets) for outcome in chunk]


@pytest.mark.parametrize("name", ["Python", "lighthubert-nas"])
def test_workers_with_another_version_than_the_driver_are_refused(cluster, monkeypatch, name):
    driver = {**ray_executor.versions(), name: "9.9"}
    monkeypatch.setattr(ray_executor, "versions", lambda: driver)
    says = rf"has {name} .*, the driver has 9.9: install the same on every node"
    with pytest.raises(NasError, match=says), RayExecutor(SCORE, actors=1, **SMALL) as executor:
        outcomes(executor)


def test_no_cluster_is_told_in_seconds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    code = f"import nas.executors.ray as r; r.RayExecutor(len, {address!r}).__enter__()"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"NasError: no Ray cluster at {address} (tried to connect: Connection refused)" in done.stderr
    assert time.monotonic() - started < 20


def test_without_ray_one_line_says_what_to_install():
    code = "import sys; sys.modules['ray'] = None; import nas.cluster.connection as r; r.connected('auto').__enter__()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("needs ray: pip install 'lighthubert-nas[ray]'")


@pytest.mark.parametrize("address", ["ray://10.0.0.1:10001", "nowhere", "10.0.0.1:port"])
def test_addresses_that_are_none_are_refused(address):
    code = f"import nas.cluster.connection as r; r.connected({address!r}).__enter__()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "NasError" in done.stderr.splitlines()[-1]
    assert address in done.stderr.splitlines()[-1]


def test_a_connection_that_stands_is_used_and_left(cluster):
    import ray

    with connected("local") as same:
        assert same.is_initialized()
    assert ray.is_initialized()
