"""The figures of a run as plain plotly dicts, made without plotly, and as files.

base.py     Figure, the colour palettes, layouts and axes
search.py   score against cost, and the best score so far
choices.py  the chosen subnet, and the effect of each choice
trust.py    agreement on which subnet is better
images.py   PNG and SVG files

Texts from a run are untrusted, and plotly reads markup in text: all of them pass `plain`, `brief` or `short`.
"""

from __future__ import annotations

from collections.abc import Sequence

from nas.report.figures.base import PALETTES, Figure, paint
from nas.report.figures.choices import effect_figures, subnet_figure
from nas.report.figures.search import convergence_figure, front_figures
from nas.report.figures.trust import trust_figure
from nas.report.run import RunReport

__all__ = ["Figure", "PALETTES", "figures", "paint"]


def figures(run: RunReport, others: Sequence[RunReport] = ()) -> dict[str, Figure]:
    """The figures that the run's data allow, by file name; `others` are runs to compare with it.

    Raises KeyError, TypeError, AttributeError or ValueError if run.json holds what no search writes.
    """
    result = front_figures(run, run.best) if run.best else {}
    if any(each.convergence for each in (run, *others)):
        result["convergence"] = convergence_figure([run, *others])
    if run.best:
        result["subnet"] = subnet_figure(run.space, run.best.subnet)
    result |= effect_figures(run)
    if trust := trust_figure(run.trust):
        result["trust"] = trust
    return result
