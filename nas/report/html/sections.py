"""The sections of the page, as HTML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from nas.report.figures import Figure
from nas.report.formatting import (
    alike_text,
    budget_text,
    budgets_text,
    cost_title,
    duration,
    gain_of_freedom,
    measurements,
    run_names,
    short,
    values_text,
)
from nas.report.html.markup import box, breakable, escaped, facts, folded, section, table, tile, tiles
from nas.report.run import RunReport, differences
from nas.report.run_json import Rescored
from nas.runs.ledger import Evaluation
from search_spaces.budget import Budget

__all__ = ["sections"]

_MAX_ROWS = 50
_SHOWN_ELSEWHERE = ("effects", "trust", "versions", "command")

Figures = Mapping[str, Figure]


def sections(runs: Sequence[RunReport], figures: Figures) -> list[str]:
    """The sections of the page of `runs[0]`, compared with the others; a section without content is empty.

    `figures` are those of `nas.report.figures`. Raises KeyError, TypeError, AttributeError or ValueError if run.json
    holds what no search writes.
    """
    run = runs[0]
    return [
        f"<header><h1>Search in {escaped(run.space_name)}</h1><p class='muted'>{breakable(run.folder)}</p></header>",
        section("Result", _result(run)),
        _fronts(run, figures),
        _compared(runs, figures),
        section("The chosen subnet, layer by layer", _figure(figures, "subnet")),
        _effects(figures),
        _trust(run, figures),
        _counts(run),
        _settings(run),
    ]


# -------------------------------------------------------------------- result


def _result(run: RunReport) -> str:
    if run.best:
        result = tiles(list(_tiles(run, run.best))) + _chosen(run, run.best)
    else:
        why = "No candidate kept its budget when measured again" if run.verification else "No subnet was scored"
        result = box("bad", f"{why}, so nothing is chosen. See the counts and errors below.")
    return f"{_searched(run)}{result}{_held_out(run)}{_measured_again(run)}"


def _searched(run: RunReport) -> str:
    size, fits = run.space_size, run.space_fits
    keep = "without a budget"
    if run.budgets:
        keep = f"{fits:,} ({100 * fits / size:.3g} %) keep {escaped(budgets_text(run.budgets))}"
    return (
        f"<p>Searched <b>{escaped(run.space_name)}</b>: {size:,} subnets, {keep}; "
        f"{run.counts['proposed']:,} evaluated in {duration(run.seconds)} "
        f"by {escaped(run.searcher)} with seed {run.seed}.</p>"
    )


def _tiles(run: RunReport, best: Evaluation) -> Iterator[str]:
    """The score, then each cost with the share of its budgets."""
    direction = "higher" if run.maximize else "lower"
    yield tile("Score", f"{best.score:.5g}", f"{escaped(run.score)}, {direction} is better")
    for name, value in best.costs.items():
        shares = [_share(b, share) for b in run.budgets_on(name) if (share := run.share_used(b)) is not None]
        yield tile(cost_title(name, run.macs_seconds), short(value, 4), "".join(shares) or "no budget on it")


def _share(budget: Budget, share: float) -> str:
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        f"<div class='bar'><div style='width:{width:.1f}%'></div></div>"
        f"{100 * share:.1f} % of {breakable(budget_text(budget))}"
    )


def _chosen(run: RunReport, best: Evaluation) -> str:
    subnet, uniform, largest = best.subnet, run.uniform, run.largest
    beside = [] if uniform is None else [
        ("best uniform subnet", f"{alike_text(uniform)}; score {short(uniform.score)}: "
         f"{gain_of_freedom(best, uniform, run.maximize)}"),
    ]  # fmt: skip
    if largest is not None:
        beside.append(("largest subnet", f"score {short(largest.score)}, {_costs(largest)}"))
    front = [("front end", f"{values_text(subnet.front_end)} channels")] if subnet.front_end else []
    return facts([
        ("subnet", subnet.id),
        ("embed dim, depth", f"{subnet.embed_dim}, {subnet.depth} layers"),
        ("heads", " ".join(map(str, subnet.heads))),
        ("FFN ratios", " ".join(f"{ratio:g}" for ratio in subnet.ffn_ratios)),
        *front,
        ("found at evaluation", f"{best.index + 1:,}"),
        *beside,
    ], caption="The best subnet")  # fmt: skip


def _measured_again(run: RunReport) -> str:
    """The measurements of the best candidates' exports, made after the search."""
    budgets = {str(budget): budget_text(budget) for budget in run.budgets}
    candidates = run.verification.get("candidates", ()) if run.verification else ()
    rows = [
        (each["id"], budgets[budget], *measurements(measured), "kept" if measured["keeps"] else "missed")
        for each in candidates
        for budget, measured in each["budgets"].items()
    ]
    heads = ("measured again", "budget", "predicted, ms", "bound", "measured", "at most", "result")
    return facts(rows, heads, "The best candidates, measured again") if rows else ""


def _held_out(run: RunReport) -> str:
    """The last candidates on speech that the search did not use, the winner first."""
    if not run.holdout:
        return ""
    rows = [(row["id"], short(row["rescored"], 5), short(row["score"], 5)) for row in run.holdout["rows"][:5]]
    speech = f"on {run.holdout['speech']}"
    return facts(rows, (speech, "score there", "score in the search"), f"The last candidates {speech}")


# -------------------------------------------------------------------- score against cost


def _fronts(run: RunReport, figures: Figures) -> str:
    if not run.best:
        return ""
    names = [name for name in figures if name.startswith("front-")]
    if not names:
        return section("The front", "<p>This run has no cost, so there is no front: only the best score counts.</p>")
    costs = list(run.best.costs)
    rows = [(e.subnet.id, f"{e.score:.5g}", *(short(e.costs[cost], 4) for cost in costs)) for e in run.front]
    title = f"Subnets on the front against {run.front_cost}: {len(rows)}"
    front = folded(title, table(("subnet", "score", *costs), rows, numbers=1, caption=title))
    return section("Score against cost", _grid(figures, names) + _hypervolume(run) + front)


def _hypervolume(run: RunReport) -> str:
    if not run.hypervolume:
        return ""
    cost, reference = breakable(run.front_cost), run.hypervolume["reference"]
    return (
        f"<p>Hypervolume <b>{escaped(short(run.hypervolume['value'], 5))}</b> ({cost} × score): the area between the "
        f"front and the reference point, {cost} {escaped(short(reference['cost'], 5))} and score "
        f"{escaped(short(reference['score'], 5))}.</p>"
    )


# -------------------------------------------------------------------- how the search went


def _compared(runs: Sequence[RunReport], figures: Figures) -> str:
    parts = _figure(figures, "convergence")
    if len(runs) > 1:
        if differ := differences(runs):
            parts += box("bad", f"These runs differ in {', '.join(differ)}: their scores cannot be compared.")
        parts += _comparison(runs)
    return section("How the search went", parts)


def _comparison(runs: Sequence[RunReport]) -> str:
    """A table with a row for each run: its settings if they differ, and its results."""
    costs = list(dict.fromkeys(cost for run in runs if run.best for cost in run.best.costs))
    settings = {
        "space": [run.space_name for run in runs],
        "score": [run.score for run in runs],
        "budgets": [budgets_text(run.budgets) or "none" for run in runs],
    }
    differ = {name: values for name, values in settings.items() if len(set(values)) > 1}
    head = ("run", "best score", *costs, "found at", "evaluations", "failed", "time", *differ)
    rows = [
        (*_compared_row(name, run, costs), *(values[row] for values in differ.values()))
        for row, (name, run) in enumerate(zip(run_names(runs), runs))
    ]
    return table(head, rows, numbers=1, caption="The runs, compared")


def _compared_row(name: str, run: RunReport, costs: Sequence[str]) -> tuple[str, ...]:
    best = run.best
    return (
        name,
        f"{best.score:.5g}" if best else "none",
        *(short(best.costs.get(cost), 4) if best else "" for cost in costs),
        f"{best.index + 1:,}" if best else "",
        f"{run.counts['proposed']:,}",
        f"{run.counts['failed']:,}",
        duration(run.seconds),
    )


# -------------------------------------------------------------------- effects and trust


def _effects(figures: Figures) -> str:
    if "effects-layers" not in figures:
        return ""
    others = [name for name in figures if name.startswith("effects-") and name != "effects-layers"]
    return section("What each choice is worth", _figure(figures, "effects-layers") + _grid(figures, others))


def _trust(run: RunReport, figures: Figures) -> str:
    trust = run.trust
    if not trust:
        return ""
    words = "".join(f"<li>{escaped(sentence)}</li>" for sentence in trust.get("words") or ())
    parts = f"<ul>{words}</ul>" if words else ""
    if certificate := trust.get("certificate"):
        parts += box("good", certificate)
    return section("How far to trust this", parts + _figure(figures, "trust") + _rescored(trust.get("rescored")))


def _rescored(rescored: Rescored | None) -> str:
    if not rescored:
        return ""
    rows = [(row["id"], short(row["score"], 5), short(row["rescored"], 5)) for row in rescored["rows"]]
    title = f"The {len(rows)} subnets that were scored again on {rescored['speech']}"
    if rank := rescored.get("winner_rank"):
        title += f"; the chosen one ranked {rank}"
    scores = table(("subnet", "score", "scored again"), rows, numbers=1, caption=title)
    return f"<h3>{escaped(title)}</h3>{scores}"


# -------------------------------------------------------------------- counts and settings


def _counts(run: RunReport) -> str:
    names = {"proposed": "Proposed", "ok": "Scored", "failed": "Failed", "over_budget": "Measured over budget"}
    names |= {"ruled_out": "Ruled out early"} if run.counts["ruled_out"] else {}
    parts = tiles([tile(name, f"{run.counts[key]:,}") for key, name in names.items()])
    errors = Counter(evaluation.error for evaluation in run.evaluations if evaluation.error)
    rows = [(error, f"{times:,}") for error, times in errors.most_common(_MAX_ROWS)]
    if rows:
        parts += "<h3>Errors</h3>" + table(("error", "times"), rows, numbers=1, caption="Errors")
    return section("Counts", parts + _unscored(run.evaluations))


def _unscored(evaluations: Sequence[Evaluation]) -> str:
    """The evaluations that are on no figure."""
    unscored = [evaluation for evaluation in evaluations if not evaluation.scored]
    if not unscored:
        return ""
    rows = [(f"{e.index + 1:,}", e.subnet.id, e.status, _costs(e), e.error or "") for e in unscored[:_MAX_ROWS]]
    more = f", the first {_MAX_ROWS} shown" if len(unscored) > _MAX_ROWS else ""
    title = f"Evaluations without a score: {len(unscored):,}{more}"
    return folded(title, table(("evaluation", "subnet", "status", "costs", "error"), rows, caption=title))


def _costs(evaluation: Evaluation) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in evaluation.costs.items())


def _settings(run: RunReport) -> str:
    shown = {key: value for key, value in run.settings.items() if key not in _SHOWN_ELSEWHERE}
    rows = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in shown.items()]
    versions = run.versions if isinstance(run.versions, dict) else {}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items()) or "not kept"
    return section(
        "How it was made",
        f"<pre>{escaped(run.command or 'the command was not kept')}</pre><p>Versions: {escaped(listed)}.</p>"
        + folded("All settings", table(("setting", "value"), rows, caption="All settings")),
    )


# -------------------------------------------------------------------- figures


def _figure(figures: Figures, name: str) -> str:
    """The place of a figure, which the page's script draws; nothing if the run has no such figure."""
    if name not in figures:
        return ""
    figure = figures[name]
    return (
        f"<figure aria-labelledby='{escaped(name)}-title'><h3 id='{escaped(name)}-title'>{escaped(figure.title)}</h3>"
        f"<figcaption class='muted'>{escaped(figure.caption)}</figcaption><div class='plot' id='{escaped(name)}' "
        f"style='height:{figure.plot['layout']['height']}px'></div></figure>"
    )


def _grid(figures: Figures, names: Sequence[str]) -> str:
    return f"<div class='grid'>{''.join(_figure(figures, name) for name in names)}</div>" if names else ""
