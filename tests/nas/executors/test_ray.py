"""Real clusters of several nodes on this machine; what dies is really killed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

import nas
from evaluators.scores import synthetic
from nas.executors.ray import RayExecutor
from nas.testing.worlds import Ruling, content, params_of, tiny_space
from search_spaces import NasError, RunError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of every release another
]
SPACE = tiny_space()
SUBNETS = list(SPACE)[:40]
SCORE = synthetic(SPACE, seed=1)
SMALL = {"cpus": 0.1}


class Slow:
    """A score that takes its time, and leaves the process id of whoever gives it."""

    higher_is_better, name = True, "slow"

    def __init__(self, folder: Path, seconds: float = 0.05) -> None:
        self.folder, self.seconds, self.settings = folder, seconds, {}

    def __call__(self, subnets):
        for subnet in subnets:
            with (self.folder / f"{os.getpid()}").open("a") as file:
                file.write(f"{subnet.id}\n")
            time.sleep(self.seconds)
        return SCORE(subnets)

    @property
    def pids(self):
        return [int(file.name) for file in self.folder.iterdir() if file.name.isdigit()]


class Deadly(Slow):
    """One subnet kills the process that scores it."""

    def __call__(self, subnets):
        if SUBNETS[7] in subnets:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(subnets)


class Hanging(Slow):
    """The first process that comes to one subnet never returns from it."""

    def __call__(self, subnets):
        flag = self.folder / "hung"
        if SUBNETS[30] in subnets and not flag.exists():
            flag.touch()
            time.sleep(1000)
        return super().__call__(subnets)


def outcomes(executor, subnets=SUBNETS):
    return [outcome for chunk in executor.run(subnets) for outcome in chunk]


def alive(executor, number, seconds=60):
    for _ in range(10 * seconds):
        executor.collect()
        if executor.alive == number:
            return
        time.sleep(0.1)
    pytest.fail(f"{executor.alive} evaluators are alive, not {number}")


def holds(number, seconds=120):
    """Waits until the cluster has noticed that it has this many nodes: one that died is found out by its silence."""
    import ray

    for _ in range(10 * seconds):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if len(nodes) == number and ray.cluster_resources().get("CPU") == sum(n["Resources"]["CPU"] for n in nodes):
            return
        time.sleep(0.1)
    pytest.fail(f"the cluster has {len(nodes)} nodes, not {number}")


def test_the_run_does_not_depend_on_the_number_of_evaluators(cluster):
    options = {"costs": {"params": params_of(SPACE)}, "budgets": ["params<=400K"], "searcher": "evolution", "evals": 60}
    wanted = content(nas.search(SPACE, SCORE, **options).evaluations)
    for actors in (1, 3):
        with RayExecutor(SCORE, actors=actors, **SMALL) as executor:
            assert content(nas.search(SPACE, SCORE, executor=executor, **options).evaluations) == wanted


def test_evaluators_rule_out_as_one_process_does(cluster):
    options = {"costs": {"params": params_of(SPACE)}, "searcher": "evolution", "evals": 60}
    wanted = nas.search(SPACE, Ruling(SCORE), **options).evaluations
    assert {e.status for e in wanted} == {"ok", "ruled out"}
    with RayExecutor(Ruling(SCORE), actors=2, **SMALL) as executor:
        assert content(nas.search(SPACE, Ruling(SCORE), executor=executor, **options).evaluations) == content(wanted)
        found = nas.search(SPACE, Ruling(SCORE), executor=executor, asynchronous=True, **options).evaluations
    assert {e.status for e in found} == {"ok", "ruled out"}


def test_what_a_killed_evaluator_held_is_scored_by_another(cluster, tmp_path):
    score = Slow(tmp_path)
    with RayExecutor(score, actors=2, **SMALL) as executor:
        found = []
        for chunk in executor.run(SUBNETS):
            found += chunk
            if len(found) < 20 and score.pids:
                os.kill(score.pids[0], signal.SIGKILL)
                shutil.move(tmp_path / str(score.pids[0]), tmp_path / f"killed-{score.pids[0]}")
        assert [outcome.score for outcome in found] == SCORE(SUBNETS)
        assert list(tmp_path.glob("killed-*"))


def test_evaluators_leave_and_join_with_their_nodes(cluster, tmp_path):
    with RayExecutor(Slow(tmp_path), actors=None, cpus=1.0) as executor:
        alive(executor, 4)
        joined = cluster.add_node(num_cpus=1)
        alive(executor, 5)
        found, removed = [], False
        for chunk in executor.run(SUBNETS):
            found += chunk
            if not removed:
                removed = True
                cluster.remove_node(joined, allow_graceful=False)
        assert [outcome.score for outcome in found] == SCORE(SUBNETS)
    holds(2)


def test_a_subnet_that_kills_every_evaluator_fails_alone(cluster, tmp_path):
    with RayExecutor(Deadly(tmp_path, 0), actors=2, **SMALL) as executor:
        found = outcomes(executor, SUBNETS[:12])
    assert [o.score for o in found] == [s if i != 7 else None for i, s in enumerate(SCORE(SUBNETS[:12]))]
    assert "4 evaluators died with it" in found[7].error


def test_who_hangs_near_the_end_is_doubled(cluster, tmp_path):
    with RayExecutor(Hanging(tmp_path, 0.01), actors=2, **SMALL) as executor:
        assert [outcome.score for outcome in outcomes(executor)] == SCORE(SUBNETS)
        assert (tmp_path / "hung").exists()


def test_asynchronous_searches_evaluate_each_subnet_once_and_go_on(cluster, tmp_path):
    options = {"costs": {"params": params_of(SPACE)}, "budgets": ["params<=400K"], "asynchronous": True}
    for searcher in ("exact", "optuna-tpe"):
        options |= {"searcher": searcher, "out": tmp_path / searcher}
        with RayExecutor(SCORE, actors=2, **SMALL) as executor:
            nas.search(SPACE, SCORE, evals=20, executor=executor, **options)
            more = nas.search(SPACE, SCORE, evals=40, executor=executor, resume=True, **options)
        assert len({e.subnet for e in more.evaluations}) == 40
        assert [e.score for e in more.evaluations] == SCORE([e.subnet for e in more.evaluations])


def resources_of(call):
    """What the node's scheduler gave to this call."""
    import ray

    if call == "broken":
        raise NasError("the device is broken")
    return call, dict(ray.get_runtime_context().get_assigned_resources())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gpus": 2.0, "actors": 4}, "4 x 2 GPU asked for, and the cluster has 0 on 2 nodes: .*--wait"),
        ({"cpus": 3.0, "actors": 4}, "4 x 3 CPU asked for, and the cluster has 4 on 2 nodes"),
        ({"cpus": 3.0, "actors": 1}, "1 x 3 CPU asked for, and the 2 nodes of the cluster hold 0: ask for fewer"),
        ({"cpus": 0.0}, "needs a share of a CPU or GPU"),
        ({"actors": 0}, "actors must be 1 or more"),
    ],
)
def test_what_the_cluster_cannot_hold_is_told_before_waiting(cluster, options, says):
    with pytest.raises(NasError, match=says), RayExecutor(SCORE, **options):
        pytest.fail("began")


def test_a_search_whose_evaluators_stay_away_ends(cluster):
    """More cores than any node has: with `wait` the search waits for a node that never comes, but not for ever."""
    late = pytest.raises(RunError, match="no evaluator was alive for 3 s, and 40 subnets are left")
    with RayExecutor(SCORE, actors=1, cpus=500.0, wait=True, timeout=3.0) as executor, late:
        outcomes(executor)
