"""Latency as a cost: the bound, and measuring again."""

from dataclasses import replace

import numpy as np
import pytest

from evaluators.costs import CostContext, latency_ms
from evaluators.costs.latency.calibration import calibrate_latency, latency_calibration_file, require_possible
from evaluators.costs.latency.cost import LatencyCost, RemoteLatencyCost, VerifiedLatencyCost, make_latency
from evaluators.costs.latency.target import Target
from search_spaces import Feasible, InfeasibleError, NasError, PredictedCost
from supernet import load_supernet
from tests.evaluators.helpers import SPACE, calibration, made_up_ms


def test_the_table_is_the_bound_and_budgets_on_it_are_solved_exactly():
    cost = LatencyCost(calibration())
    low, high = cost.table.range()
    fits = Feasible(SPACE, [(cost.table, (low + high) / 2)])
    draws = fits.sample(np.random.default_rng(0), 200)
    assert max(cost.of(s) for s in draws) <= (low + high) / 2
    assert np.mean([made_up_ms(s) > (low + high) / 2 for s in draws]) <= 0.01
    assert cost.mean.of(draws[0]) < cost.of(draws[0])
    assert not hasattr(cost, "verify")


@pytest.mark.slow
def test_a_real_machine_is_calibrated_once_and_its_subnets_verified(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = load_supernet("hubert-tiny")
    target = Target(seconds=0.1)
    with pytest.raises(InfeasibleError, match="the fastest takes about"):
        require_possible(model, target, 0.001)
    made = calibrate_latency(model, target, 20)
    made.save(latency_calibration_file(model.space, target))
    cost = latency_ms(model, "torch,seconds=0.1")
    assert cost.calibration.made == made.made
    found = cost.verify(model.space.smallest, 1e6)
    assert found["keeps"]
    assert found["measured_ms"] < found["measured_at_most_ms"] < 1e6
    assert not cost.verify(model.space.smallest, 1e-3)["keeps"]


def test_a_cost_can_be_verified_if_its_target_is_reachable():
    made = calibration()
    assert not isinstance(LatencyCost(made), PredictedCost)

    class Model:
        space = SPACE

    assert isinstance(VerifiedLatencyCost(made, Model()), PredictedCost)
    calls = []
    remote = RemoteLatencyCost(made, Model(), lambda function, *arguments: calls.append(arguments) or {"keeps": True})
    assert isinstance(remote, PredictedCost)
    assert remote.verify(SPACE.smallest, 3.0) == {"keeps": True}
    assert calls[0][2:] == (SPACE.smallest, 3.0)
    other = replace(made, machine={"cpu": "Z80"})
    with pytest.raises(NasError, match="another machine"):
        VerifiedLatencyCost(other, Model())


def test_the_calibration_is_the_runs_own_or_the_files_or_made_on_the_node(tmp_path):
    class Model:
        space = SPACE

    made = calibration()
    kept = make_latency(CostContext(SPACE, Model(), calibration=made.to_dict()), "torch")
    assert isinstance(kept, VerifiedLatencyCost)
    assert kept.calibration.to_dict() == made.to_dict()
    elsewhere = replace(made, machine={"cpu": "Z80"})
    elsewhere.save(tmp_path / "z80.json")
    brought = make_latency(CostContext(SPACE, Model()), str(tmp_path / "z80.json"))
    assert type(brought) is LatencyCost
    on_node = make_latency(CostContext(SPACE, Model(), remote=lambda function, *arguments: elsewhere), "torch")
    assert isinstance(on_node, RemoteLatencyCost)
    with pytest.raises(NasError, match="needs a supernet"):
        make_latency(CostContext(SPACE), None)
