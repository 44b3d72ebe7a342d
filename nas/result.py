"""The outcome of a search, for Python, notebooks, pandas, plotly and Optuna."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nas.extras import extra_module
from nas.objective import Objective
from nas.report.formatting import short, thinned, values_text
from nas.report.run import RunReport, report_of
from nas.runs.ledger import Evaluation
from search_spaces import CheckFailed, NasError, space_from_dict
from search_spaces.types import JsonObject

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["NothingScored", "SearchResult", "refuse_failures"]

_MAX_ROWS = 10
_COLUMNS = (
    "status", "front", "uniform", "embed_dim", "depth", "heads", "ffn_ratios", "front_end", "id", "error", "origin",
    "seconds", "at",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class SearchResult:
    """The outcome of a search.

    `best` has the best score within the budgets (None if there is none). `front` is the score against the objective's
    cost or, with the score alone as objective, against the first budget's. `uniform` is the best of the subnets that
    are alike in all layers (None if none fits). `verification` holds what `nas.verify` measured, if a budget is on a
    predicted cost. `settings` is what run.json holds, or would hold.

    >>> result = nas.search("hubert-tiny", score, budgets=("params<=2.5M",))
    >>> result.best.subnet, result.to_pandas(), result.plot_front(), result.to_optuna()
    """

    best: Evaluation | None
    front: list[Evaluation]
    evaluations: list[Evaluation]
    folder: Path | None = None
    verification: Mapping[str, object] | None = None
    uniform: Evaluation | None = None
    settings: JsonObject = field(default_factory=dict)

    def __repr__(self) -> str:
        named = {"best": self.best, "uniform": self.uniform}
        lines = [f"SearchResult: {self._counts()}"]
        lines += [f"  {name:8} {_text(each)}" for name, each in named.items()]
        against = f" against {self._cost()}" if self._cost() else ""
        lines.append(f"  {'front':8} {len(self.front)} subnets{against}")
        return "\n".join([*lines, *([] if self.folder is None else [f"  {'folder':8} {self.folder}"])])

    def _repr_html_(self) -> str:
        """What a notebook shows: the best, the best uniform subnet and the front as a table."""
        from nas.report.html.markup import escaped, table

        costs = self.settings.get("costs", [])
        rows = [_row(name, each, costs) for name, each in (("best", self.best), ("uniform", self.uniform)) if each]
        shown = thinned(self.front, _MAX_ROWS)
        rows += [_row("front" if point is shown[0] else "", point, costs) for point in shown]
        caption = self._counts() + ("" if self.folder is None else f"; {self.folder}")
        if len(shown) < len(self.front):
            caption += f"; {len(shown)} of {len(self.front)} subnets of the front shown"
        head = ("", "score", *costs, "subnet", "embed dim", "depth", "heads", "FFN ratios", "front end")
        if not any(each.subnet.front_end for each in self.evaluations):
            head, rows = head[:-1], [row[:-1] for row in rows]
        return f"<p><b>SearchResult</b>: {escaped(caption)}</p>{table(head, rows)}"

    def to_pandas(self) -> pd.DataFrame:
        """One row for each evaluation, in order: score, costs, choices, status, and whether it is on the front.

        >>> result.to_pandas().sort_values("score").tail()

        `result.evaluations[i].subnet` is the subnet of row i. Needs pandas.
        """
        pandas = extra_module("pandas", "to_pandas()", "pandas")
        front = {evaluation.index for evaluation in self.front}
        rows = [_record(evaluation, evaluation.index in front) for evaluation in self.evaluations]
        frame = pandas.DataFrame(rows, columns=["score", *self.settings.get("costs", []), *_COLUMNS])
        return frame.assign(at=pandas.to_datetime(frame["at"], utc=True, format="ISO8601"))

    def plot_front(self, cost: str | None = None) -> go.Figure:
        """The score against `cost` (default: the front's), with the best and the best uniform subnet. Needs plotly.

        >>> result.plot_front("macs").write_html("front.html")
        """
        plotly = extra_module("plotly.graph_objects", "plot_front()", "report")
        from nas.report.figures import PALETTES, paint
        from nas.report.figures.base import plain
        from nas.report.figures.search import front_figures

        cost = cost or self._cost()
        if self.best is None or cost is None:
            raise NasError("there is no front to plot: the search has no best subnet, or no costs")
        if cost not in self.best.costs:
            raise NasError(f"cost must be one of {', '.join(self.best.costs)}; got {cost!r}")
        title, _, plot = next(iter(front_figures(replace(self._report(), front_cost=cost), self.best).values()))
        figure = plotly.Figure(paint(plot, PALETTES["light"]))
        return figure.update_layout(title=plain(title), margin_t=60)

    def to_optuna(self) -> optuna.Study:
        """A study of the evaluations, in memory: a trial for each, with its choices as parameters. Needs Optuna.

        >>> optuna.visualization.plot_param_importances(result.to_optuna())

        Failed evaluations are failed trials. See `nas.study` for the names; `nas report --journal` writes it to a file.
        """
        module = extra_module("nas.study", "to_optuna()", "optuna", package="optuna")
        space = space_from_dict(self.settings["space"])
        objective = Objective(self.settings["maximize"], *self.settings["objectives"][1:])
        return cast("optuna.Study", module.as_study(self.evaluations, space, objective))

    def _report(self) -> RunReport:
        return report_of(self.folder or "", self.settings, self.evaluations)

    def _cost(self) -> str | None:
        return cast("str | None", self.settings.get("front_cost"))

    def _counts(self) -> str:
        """64 evaluations of hubert-tiny by exact (3 failed, 12 known before)."""
        evaluations = self.evaluations
        counts = Counter([e.status for e in evaluations] + ["known before" for e in evaluations if e.origin])
        named = ("failed", "over budget", "ruled out", "known before")
        words = ", ".join(f"{counts[name]} {name}" for name in named if counts[name] or name == "failed")
        space, searcher = self.settings.get("space", {}).get("name"), self.settings.get("searcher")
        of = f" of {space} by {searcher}" if space else ""
        return f"{len(evaluations)} evaluations{of} ({words})"


class NothingScored(CheckFailed):
    """Subnets were evaluated, and none could be scored within the budgets; `result` holds the evaluations."""

    result: SearchResult


def refuse_failures(result: SearchResult) -> None:
    """Raises `NothingScored`, with the first failure, for a search that has no best because its evaluations failed."""
    lost = [evaluation for evaluation in result.evaluations if not evaluation.scored]
    if result.best is not None or not lost:
        return
    failed = [evaluation for evaluation in lost if evaluation.status == "failed"]
    if not failed:
        message = f"all {len(lost)} evaluations are over a budget on a measured cost: raise it, or spend more of them"
    elif len(failed) == len(lost):
        message = f"all {len(failed)} evaluations failed; the first: {failed[0].error}"
    else:
        over = len(lost) - len(failed)
        message = f"{len(failed)} evaluations failed and {over} are over a budget; the first failure: {failed[0].error}"
    error = NothingScored(message)
    error.result = result
    raise error


def _text(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "none"
    costs = "".join(f", {name} {short(value, 4)}" for name, value in evaluation.costs.items())
    return f"score {short(evaluation.score, 5)}{costs}: {evaluation.subnet!r}"


def _row(name: str, evaluation: Evaluation, costs: Sequence[str]) -> list[str]:
    """Cells for `_repr_html_`."""
    subnet = evaluation.subnet
    numbers = [short(evaluation.score, 5), *(short(evaluation.costs[cost], 4) for cost in costs)]
    layers = values_text(subnet.heads), values_text(subnet.ffn_ratios)
    front = values_text(subnet.front_end) if subnet.front_end else "whole"
    return [name, *numbers, subnet.id, str(subnet.embed_dim), str(subnet.depth), *layers, front]


def _record(evaluation: Evaluation, on_front: bool) -> dict[str, object]:
    """A row for `to_pandas`."""
    own = {name: getattr(evaluation, name) for name in ("score", "status", "error", "origin", "seconds", "at")}
    names = ("uniform", "embed_dim", "depth", "heads", "ffn_ratios", "front_end", "id")
    return {**own, **evaluation.costs, "front": on_front, **{name: getattr(evaluation.subnet, name) for name in names}}
