from __future__ import annotations

import json
from pathlib import Path

import pytest

import nas
from evaluators import costs
from evaluators.scores import synthetic
from nas.report.summary import summary
from nas.testing.worlds import Counting, Ruling, content, params_of, tiny_space
from search_spaces import InfeasibleError, NasError, RunError, SpaceError, get_space

SPACE = tiny_space()
PARAMS = params_of(SPACE)
LEAST, MOST = PARAMS.range()
SCORE = synthetic(SPACE, seed=1)


def depth(subnet):
    return subnet.depth


def never(subnets):
    pytest.fail("scored although nothing may be")


class Measured:
    """A cost that is not additive: measured, and it may fail."""

    def __init__(self, of):
        self.of = of


def test_best_is_the_best_score_within_the_budget():
    result = nas.search(SPACE, SCORE, {"params": PARAMS}, ["params<=400K"], "random", evals=1000)
    fits = [subnet for subnet in SPACE if PARAMS.of(subnet) <= 400_000]
    assert result.best.score == max(SCORE(fits))
    assert result.best.subnet == PARAMS.best(SCORE.table, 400_000)
    exact = [(p.subnet, p.cost) for p in PARAMS.front(SCORE.table, budget=400_000)]
    assert [(e.subnet, e.costs["params"]) for e in result.front] == exact


def test_a_cost_may_be_an_object_with_a_table():
    class Cost:
        table, of = PARAMS, PARAMS.of

    plain = nas.search(SPACE, SCORE, {"params": PARAMS}, ["params<=400K"], evals=20)
    assert content(nas.search(SPACE, SCORE, {"params": Cost()}, ["params<=400K"], evals=20).evaluations) == content(
        plain.evaluations
    )


def test_several_budgets_on_one_cost_mean_the_tightest():
    result = nas.search(SPACE, SCORE, {"params": PARAMS}, ["params<=500K", "params<=400K"], evals=30)
    assert max(e.costs["params"] for e in result.evaluations) <= 400_000


def test_without_costs_the_front_is_the_best():
    result = nas.search(SPACE, SCORE, {}, evals=10)
    assert result.front == [result.best]


def test_a_space_may_be_named_and_knows_its_costs(tmp_path):
    class Supernet:
        space = get_space("hubert-tiny")

    (tmp_path / "mine.toml").write_text('base = "hubert-tiny"\ndepths = [12]')
    budgets = ("params<=71%", "macs<=250M", "memory_bytes<=12MB")
    results = [
        nas.search(space, depth, budgets=budgets, evals=4)
        for space in ("hubert-tiny", Supernet.space, Supernet(), tmp_path / "mine.toml")
    ]
    for result in results:
        assert list(result.best.costs) == ["params", "macs", "memory_bytes"]
        for name, of in (("params", costs.params), ("macs", costs.macs), ("memory_bytes", costs.memory_bytes)):
            assert result.best.costs[name] == of("hubert-tiny").of(result.best.subnet)
        assert result.best.costs["macs"] <= 250_000_000
    assert content(results[0].evaluations) == content(results[1].evaluations) == content(results[2].evaluations)


def test_costs_of_the_caller_win():
    class Twice:
        def of(self, subnet):
            return 2 * PARAMS.of(subnet)

    result = nas.search(SPACE, SCORE, {"params": Twice()}, ["params<=800K", "macs<=1T"], evals=8)
    assert all(e.costs["params"] == 2 * PARAMS.of(e.subnet) for e in result.evaluations)
    assert list(nas.search(SPACE, SCORE, evals=1).best.costs) == ["params", "macs"]


def test_a_score_of_one_subnet_is_mapped_over_the_list():
    result = nas.search(SPACE, lambda subnet: SCORE([subnet])[0], {"params": PARAMS}, ["params<=400K"], evals=30)
    whole = nas.search(SPACE, SCORE, {"params": PARAMS}, ["params<=400K"], evals=30)
    assert content(result.evaluations) == content(whole.evaluations)


def test_an_impossible_budget_is_told_before_anything_is_scored_or_written(tmp_path):
    with pytest.raises(InfeasibleError, match=f"{LEAST:,}") as caught:
        nas.search(SPACE, never, {"params": PARAMS}, ["params<=1K"], out=tmp_path / "run")
    assert caught.value.exit_status == 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budgets": ["watts<=3"]}, "unknown cost 'watts'.*known here: mine, params, macs, memory_bytes, latency_ms"),
        ({"budgets": [nas.Budget("watts", 3)]}, "unknown cost 'watts'.*known here: mine, params"),
        ({"budgets": ["watts<=3"], "costs": None}, "unknown cost 'watts'.*known here: params"),
        ({"budgets": ["latency_ms<=3"]}, "latency_ms is measured on exported subnets: it needs a supernet"),
        ({"budgets": ["params@cpu<=3"]}, "a budget is written like"),
        ({"costs": {"params": 3}}, r"must be an AdditiveTable or have \.of\(subnet\); got int"),
        ({"evals": -1}, "evals must be a whole number, 0 or more; got -1"),
        ({"evals": 1.5}, "evals must be a whole number"),
        ({"batch": 0}, "batch must be a whole number, 1 or more"),
        ({"seed": None}, "seed must be a whole number"),
        ({"searcher": "exhaustive"}, "unknown searcher"),
        ({"objectives": ("score", "watts")}, "unknown cost 'watts'.*known here: mine, params"),
        ({"objectives": ("score", 3)}, "unknown cost '3'"),
        ({"objectives": "score"}, "objectives must be"),
        ({"objectives": None}, "objectives must be"),
        ({"resume": True}, "resume=True needs out"),
        ({"budgets": "params<=400K"}, r"budgets must be a tuple like .*; got 'params<=400K'"),
        ({"budgets": [("params", 400_000)]}, "budgets must be a tuple like"),
        ({"budgets": None}, "budgets must be a tuple like"),
        ({"costs": [PARAMS]}, "costs must map names to costs.*got list"),
        ({"searcher": ["random"]}, "unknown searcher"),
        ({"space": "hubert-huge"}, "unknown space 'hubert-huge'; known: .*hubert-tiny, or a path to a .toml file"),
        ({"space": 3}, "space must be a Space, its name, a path to a .toml file, or a supernet; got 3"),
        ({"score": None}, "score must be a function of a list of subnets, or of one subnet; got None"),
        ({"resume": True, "out": "x", "warm_start": 3}, "leave warm_start out"),
        ({"warm_start": 3}, "warm_start must be an Optuna study; got 3"),
    ],
)
def test_what_the_user_got_wrong_is_one_line(options, says):
    with pytest.raises(NasError, match=says) as caught:
        nas.search(**{"space": SPACE, "score": never, "costs": {"mine": PARAMS}, **options})
    assert "\n" not in str(caught.value)


def test_a_cost_of_another_space_is_refused():
    with pytest.raises(SpaceError, match="is of space"):
        nas.search(SPACE, never, {"params": params_of(tiny_space(heads=(2, 4)))})


def test_a_measured_cost_is_measured_and_what_is_over_is_not_scored():
    latency = Measured(lambda subnet: PARAMS.of(subnet) / 10_000)
    score = Counting(SCORE)
    result = nas.search(SPACE, score, {"params": PARAMS, "latency_ms": latency}, ["latency_ms<=40"], evals=60, batch=7)
    over = [e for e in result.evaluations if e.costs["latency_ms"] > 40]
    assert {e.status for e in over} == {"over budget"}
    assert len(score.scored) == 60 - len(over) < 60
    assert [e.index for e in result.evaluations] == list(range(60))
    assert all(e.costs["latency_ms"] <= 40 for e in [result.best, *result.front])


def test_a_cost_that_cannot_be_measured_fails_its_subnet_only():
    def of(subnet):
        if subnet.embed_dim == 128:
            raise RuntimeError("out of memory")
        return float("nan") if subnet.depth == 2 else 1

    result = nas.search(SPACE, SCORE, {"latency_ms": Measured(of)}, evals=60)
    assert {e.error for e in result.evaluations} == {
        None, "RuntimeError: out of memory", "ValueError: latency_ms is nan",
    }  # fmt: skip
    assert result.best.subnet.embed_dim == 192


def test_a_run_of_a_measured_cost_resumes_from_what_was_measured(tmp_path):
    times = iter(range(1, 1000))
    latency = {"latency_ms": Measured(lambda subnet: next(times))}
    first = nas.search(SPACE, SCORE, latency, ["latency_ms<=50"], evals=20, out=tmp_path)
    more = nas.search(SPACE, SCORE, latency, ["latency_ms<=50"], evals=30, out=tmp_path, resume=True)
    assert more.evaluations[:20] == first.evaluations
    assert [e.costs["latency_ms"] for e in more.evaluations] == list(range(1, 31))


def test_an_interrupt_keeps_what_was_done_and_writes_the_best_so_far(tmp_path):
    batches = []

    def interrupted(subnets):
        batches.append(subnets)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return SCORE(subnets)

    interrupted.name, interrupted.settings = SCORE.name, SCORE.settings
    options = {"costs": {"params": PARAMS}, "budgets": ["params<=400K"], "evals": 40, "batch": 8}
    options["searcher"] = "evolution"
    with pytest.raises(KeyboardInterrupt):
        nas.search(SPACE, interrupted, out=tmp_path / "a", **options)
    assert len((tmp_path / "a" / "ledger.jsonl").read_text().splitlines()) == 16
    assert json.loads((tmp_path / "a" / "best.json").read_text())["score"] == summary(tmp_path / "a")["best"]["score"]
    resumed = nas.search(SPACE, SCORE, out=tmp_path / "a", resume=True, **options)
    assert content(resumed.evaluations) == content(nas.search(SPACE, SCORE, **options).evaluations)


def test_progress_is_told_after_each_chunk():
    seen = []
    options = {"searcher": "random", "evals": 20, "batch": 8}
    nas.search(SPACE, SCORE, **options, callbacks=[lambda evaluations: seen.append(len(evaluations))])
    assert seen == [8, 16, 20]


def test_run_json_holds_every_setting(tmp_path):
    settings = {"supernet": Path("x")}
    nas.search(SPACE, SCORE, {"params": PARAMS}, ["params<=400K"], evals=5, out=tmp_path, settings=settings)
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["space"] == SPACE.to_dict()
    assert run["budgets"] == ["params<=400000"]
    assert run["score"] == {"name": "synthetic", "seed": 1, "noise": 0.0, "interactions": 0.0}
    assert run["settings"] == {"supernet": "x"}
    assert run["space_fits"] == PARAMS.count(400_000)
    assert {"python", "numpy", "lighthubert-nas"} <= set(run["versions"])
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["budgets"] == ["params<=400000"]
    assert best["id"] == summary(tmp_path)["best"]["id"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 1}, "another seed: it was 0, now 1"),
        ({"searcher": "random"}, 'another searcher: it was "exact", now "random"'),
        ({"budgets": ["params<=390K"]}, "another budgets: it was .*400000.*390000"),
        ({"score": synthetic(SPACE, seed=2)}, "another score.seed: it was 1, now 2"),
        ({"objectives": ("score", "params")}, "another objectives"),
        ({"space": tiny_space(heads=(2, 4))}, r"another space.heads: it was \[2, 4, 6\], now \[2, 4\]"),
        ({"evals": 10}, "planned with evals=20; resume may only raise it; got 10"),
    ],
)
def test_resuming_with_other_settings_names_the_first_difference(tmp_path, change, says):
    options = {"space": SPACE, "score": SCORE, "budgets": ["params<=400K"], "evals": 20, "out": tmp_path}
    nas.search(costs={"params": PARAMS}, **options)
    before = (tmp_path / "run.json").read_bytes(), (tmp_path / "ledger.jsonl").read_bytes()
    options = {**options, **change}
    with pytest.raises(RunError, match=says):
        nas.search(costs={"params": params_of(options["space"])}, resume=True, **options)
    assert before == ((tmp_path / "run.json").read_bytes(), (tmp_path / "ledger.jsonl").read_bytes())


def test_resuming_after_the_cost_changed_is_refused(tmp_path):
    def table(extra):
        return type(PARAMS)(SPACE, "params", "", PARAMS.constant + extra, PARAMS.layers)

    nas.search(SPACE, SCORE, {"params": table(0)}, evals=5, out=tmp_path)
    with pytest.raises(RunError, match=r"cannot resume: params of subnet .*the cost changed"):
        nas.search(SPACE, SCORE, {"params": table(1)}, evals=5, out=tmp_path, resume=True)


def test_a_ledger_of_another_run_is_refused(tmp_path):
    for seed in (0, 1):
        nas.search(SPACE, SCORE, evals=5, seed=seed, out=tmp_path / str(seed))
    (tmp_path / "0" / "ledger.jsonl").write_bytes((tmp_path / "1" / "ledger.jsonl").read_bytes())
    with pytest.raises(RunError, match=r"cannot resume: evaluation \d should be of subnet"):
        nas.search(SPACE, SCORE, evals=5, seed=0, out=tmp_path / "0", resume=True)


@pytest.mark.parametrize("searcher", ["exact", "evolution", "local", "optuna-tpe"])
def test_what_is_ruled_out_teaches_the_searcher_but_is_not_found(searcher, tmp_path):
    options = {"costs": {"params": PARAMS}, "budgets": ["params<=400K"], "searcher": searcher, "evals": 60}
    result = nas.search(SPACE, Ruling(SCORE), out=tmp_path, **options)
    ruled_out = [e for e in result.evaluations if e.status == "ruled out"]
    assert ruled_out
    assert all(e.score == SCORE([e.subnet])[0] - 0.001 for e in ruled_out)
    assert result.best.ok
    assert result.best.score == max(SCORE([e.subnet for e in result.evaluations]))
    assert all(e.ok for e in result.front)
    assert summary(tmp_path)["counts"]["ruled_out"] == len(ruled_out)


def test_a_batch_is_ruled_out_against_what_was_known_before_it_wherever_it_was_interrupted(tmp_path):
    options = {"costs": {"params": PARAMS}, "searcher": "random", "batch": 8}
    whole = nas.search(SPACE, Ruling(SCORE), evals=48, **options)
    nas.search(SPACE, Ruling(SCORE), evals=21, out=tmp_path, **options)
    resumed = nas.search(SPACE, Ruling(SCORE), evals=48, out=tmp_path, resume=True, **options)
    assert content(resumed.evaluations) == content(whole.evaluations)


def test_a_front_has_nothing_to_rule_out_by():
    with pytest.raises(NasError, match="successive evaluation is for the objective score alone"):
        nas.search(SPACE, Ruling(SCORE), {"params": PARAMS}, objectives=("score", "params"))
