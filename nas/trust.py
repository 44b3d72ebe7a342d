"""How far a search can be trusted: evidence about the score, the model of it, and the winner.

Everything here is computed from the evaluations alone, for every searcher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nas.certificate import Certificate, certify
from nas.objective import Objective
from nas.runs.ledger import Evaluation
from nas.score_model import ChoiceFeatures, ScoreModel
from search_spaces import ChainTable, Feasible, Space, Subnet
from search_spaces.types import Array, JsonMapping, JsonObject

__all__ = ["assess", "kendall_tau"]


MIN_EVALUATIONS = 12
_FOLDS = 5
_DRAWS = 64
_RESAMPLES = 400
MAX_FOR_TAU = 500
_TOP = 5
_RESCORED = 8


def assess(
    evaluations: Sequence[Evaluation],
    objective: Objective,
    feasible: Feasible,
    held_out: Callable[[list[Subnet]], Sequence[float]] | None = None,
    proposals: Mapping[str, int] | None = None,
) -> JsonObject:
    """`trust` and `effects`, as plain containers for run.json.

    Kendall's tau of the score model on evaluations it was not fitted on (5 folds), beside that of each cost alone, with
    95 % intervals (bootstrap over evaluations); the regret of taking the model's best five; a certificate; the
    winners scored again on other speech, if the score has `held_out`; and the effect of each choice. `proposals` counts
    the searcher's "repeated" and "repaired" proposals.
    """
    known = [e for e in evaluations if e.ok or (e.scored and e.origin is None)]  # what this search may choose
    trust: JsonObject = {"evaluations": len(known), "model": None, "by_cost": {}, "certificate": None}
    counts = {"new": sum(e.origin is None for e in evaluations), **(proposals or {})}
    counts |= {"failed": sum(e.status == "failed" for e in evaluations), "ruled_out": sum(not e.ok for e in known)}
    trust["proposals"] = counts
    effects = None
    if len(known) >= MIN_EVALUATIONS:
        rng = np.random.default_rng(0)
        worth = np.array([objective.worth(e) for e in known])
        vectors = np.array([feasible.space.encode(e.subnet) for e in known])
        features = ChoiceFeatures(feasible.space)
        predicted = _held_out_predictions(features, vectors, worth)
        trust["model"] = {**kendall_tau(predicted, worth, rng), **_top_regret(predicted, worth)}
        for cost in known[0].costs:
            trust["by_cost"][cost] = kendall_tau(np.array([float(e.costs[cost]) for e in known]), worth, rng)
        model = ScoreModel(features, vectors, worth)
        sign = 1 if objective.maximize else -1
        draws = [model.draw(rng) for _ in range(_DRAWS)]
        trust |= _certificate(feasible, certify(feasible, model, worth, rng), worth, worth - predicted, sign)
        effects = _effects(model.table(), draws, vectors, sign)
    trust["rescored"] = _rescored(known, objective, held_out) if held_out is not None and known else None
    return {"trust": {**trust, "words": _words(trust)}, "effects": effects}


def kendall_tau(a: Array, b: Array, rng: np.random.Generator) -> dict[str, float]:
    """Kendall's tau-b and its 95 % interval, by bootstrap; on evenly spaced evaluations if they are many."""
    rows = np.unique(np.linspace(0, len(a) - 1, MAX_FOR_TAU).round().astype(int))
    x, y = (np.sign(v[rows][:, None] - v[rows]) for v in (a, b))
    tau = _tau(x, y)
    picks = (rng.integers(len(rows), size=len(rows)) for _ in range(_RESAMPLES))
    taus = [_tau(x[np.ix_(pick, pick)], y[np.ix_(pick, pick)]) for pick in picks]
    low, high = np.quantile(taus, [0.025, 0.975])
    return {"tau": round(tau, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _tau(x: Array, y: Array) -> float:
    ties = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / ties if ties else 0.0


def _held_out_predictions(features: ChoiceFeatures, vectors: Array, worth: Array) -> Array:
    """The score of each evaluation, predicted by a model of the other folds."""
    predicted = np.empty(len(worth))
    for fold in range(_FOLDS):
        test = np.arange(len(worth)) % _FOLDS == fold
        predicted[test] = ScoreModel(features, vectors[~test], worth[~test]).predict(vectors[test])
    return predicted


def _top_regret(predicted: Array, worth: Array) -> dict[str, float]:
    top = np.argsort(-predicted, kind="stable")[:_TOP]
    return {"top_k": _TOP, "top_k_regret": float(worth.max() - worth[top].max())}


def _certificate(feasible: Feasible, certificate: Certificate, worth: Array, errors: Array, sign: int) -> JsonObject:
    """The bound on how much better an unevaluated subnet may be, in numbers and in a sentence."""
    best, size = float(worth.max()), feasible.count()
    expected, regret = certificate
    return {
        "expected_best": sign * expected,
        "held_out_error": float(np.sqrt((errors**2).mean())),
        "regret": regret,
        "certificate": (
            f"By the model fitted to these evaluations, the best of all {size:,} subnets within the budgets is "
            f"expected to score {sign * expected:.6g}; the best evaluated one scores {sign * best:.6g}. With 95 % "
            f"confidence the regret is at most {regret:.2g}, if the model's errors elsewhere are no larger than on "
            "the best quarter of the evaluations."
        ),
    }


def _effects(table: ChainTable, draws: Sequence[ChainTable], vectors: Array, sign: int) -> JsonObject:
    """The effect of each choice, averaged over the others and relative to the mean choice, on the model's scale.

    That is the score's near the best subnet (`nas.warp`).
    """
    space = table.space
    chosen = space.chosen(vectors)
    means, spreads = _mean_effects(table), [_mean_effects(draw) for draw in draws]

    def rows(key: Any, labels: Sequence[JsonMapping], indices: Array) -> list[JsonObject]:
        std = np.std([each[key] for each in spreads], axis=0)
        return [
            {**label, "effect": sign * float(means[key][i]), "std": float(std[i]), "count": int((indices == i).sum())}
            for i, label in enumerate(labels)
        ]

    layers = []
    for layer, choices in enumerate(space.choices[: space.network.num_layers]):
        if layer in means:
            labels = [{"heads": heads, "ffn_ratio": ratio} for heads, ratio in choices]
            layers.append({"layer": layer + 1, "choices": rows(layer, labels, chosen[:, layer])})
    return {
        "unit": "score",
        "layers": layers,
        **_front_end_effects(space, rows, chosen),
        "embed_dims": rows("embed_dims", [{"embed_dim": D} for D in space.embed_dims], vectors[:, 0]),
        "depths": rows("depths", [{"depth": depth} for depth in space.depths], vectors[:, 1]),
    }


def _front_end_effects(space: Space, rows: Callable[..., list[JsonObject]], chosen: Array) -> JsonObject:
    """Those of the front end, if it is a choice."""
    if not space.elastic_front_end:
        return {}
    labels = [{"front_end": list(profile)} for profile in space.front_ends]
    return {"front_ends": rows(space.network.num_layers, labels, chosen[:, -1])}


def _mean_effects(table: ChainTable) -> dict[Any, Array]:
    """For each layer (C,), and for "embed_dims" and "depths": the mean over all else, less the mean of the choices."""
    depths = list(table.space.chains)
    total = table.constant.copy()
    result: dict[Any, Array] = {}
    for p, kept in enumerate(depths):
        for link in table.links(kept):
            total[:, p] += 0.0 if link is None else link.mean()
    for layer, terms in enumerate(table.layers):
        having = [p for p, kept in enumerate(depths) if layer in kept]
        if having:
            own = terms[:, having].mean((0, 1))
            for (a, b), link in table.pairs.items():
                own = own + (link.mean(1) if layer == a else link.mean(0) if layer == b else 0.0)
            result[layer] = own - own.mean()
            total[:, having] += terms[:, having].mean(2)
    result["embed_dims"] = total.mean(1) - total.mean()
    result["depths"] = total.mean(0) - total.mean()
    return result


def _rescored(
    known: Sequence[Evaluation], objective: Objective, held_out: Callable[[list[Subnet]], Sequence[float]]
) -> JsonObject:
    """The best few and as many of the others, scored again on speech that the search did not use."""
    ranked = sorted((e for e in known if e.ok), key=objective.worth, reverse=True)
    rest = ranked[_RESCORED:]
    chosen = [*ranked[:_RESCORED], *(rest[i * len(rest) // _RESCORED] for i in range(min(_RESCORED, len(rest))))]
    again = np.array([float(value) for value in held_out([e.subnet for e in chosen])])
    sign = 1 if objective.maximize else -1
    worth = np.array([objective.worth(e) for e in chosen])
    tau = kendall_tau(worth, sign * again, np.random.default_rng(0)) if len(chosen) > 2 else {}
    return {
        "speech": str(getattr(held_out, "source", "held-out speech")),
        "subnets": len(chosen),
        **tau,
        "winner_rank": 1 + int((sign * again > sign * again[0]).sum()),
        "rows": [
            {"id": e.subnet.id, "score": e.score, "rescored": value}
            for e, value in zip(chosen, again.tolist(), strict=True)
        ],
    }


def _words(trust: JsonMapping) -> list[str]:
    """The same as sentences."""
    words = []
    model = trust["model"]
    if model is None:
        words.append(
            f"{trust['evaluations']} scored subnets are too few to judge how far to trust them; {MIN_EVALUATIONS} "
            "are enough."
        )
    else:
        words.append(
            f"Shown two subnets it has not seen, the score model puts them in the right order in "
            f"{50 + 50 * model['tau']:.0f} of 100 cases (Kendall tau {model['tau']:.2f}, 95 % interval "
            f"{model['low']:.2f} to {model['high']:.2f})."
        )
        for cost, of in trust["by_cost"].items():
            words.append(f"Ranking by {cost} alone is right in {50 + 50 * of['tau']:.0f} of 100 (tau {of['tau']:.2f}).")
        words.append(
            f"The best of the {model['top_k']} subnets that the model ranks first is worse than the best known by "
            f"{model['top_k_regret']:.2g}."
        )
    made = trust["proposals"]
    ruled_out = f" {made['ruled_out']} were ruled out on a quarter of the speech." if made.get("ruled_out") else ""
    words.append(
        f"{made['new']} subnets were proposed, all new and within the budgets on known costs; {made['failed']} could "
        f"not be scored.{ruled_out} The searcher replaced {made.get('repeated', 0)} repeated proposals, and moved "
        f"{made.get('repaired', 0)} that were over a budget to the nearest subnet within it."
    )
    again = trust["rescored"]
    if again and "tau" in again:
        words.append(
            f"Scored again on speech the search never saw, the winner is number {again['winner_rank']} of "
            f"{again['subnets']} (Kendall tau of both scores {again['tau']:.2f})."
        )
    return words
