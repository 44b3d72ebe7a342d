"""The page as a file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from nas.report.figures import figures
from nas.report.html.page import page
from nas.report.html.sections import sections
from nas.report.run import Folder, checked, read_reports
from nas.runs.ledger import Evaluation
from search_spaces import NasError
from search_spaces.files import write_text

__all__ = ["write_html"]


def write_html(folders: Sequence[Folder], path: Path, largest: Evaluation | None = None) -> Path:
    """Writes the report of the run in `folders[0]`, compared with the runs in the others. Returns `path`.

    `largest`: the largest subnet of the first run, if it was scored outside the run. Raises `NasError` if plotly is
    missing, and `RunError` for a folder that holds no run.
    """
    script = _plotly_js()
    runs = read_reports(folders, largest)
    with checked(folders[0]):
        plots = figures(runs[0], runs[1:])
        body = sections(runs, plots)
    title = f"Search in {runs[0].space_name}: {runs[0].folder}"
    write_text(path, page(title, body, plots, script))
    return Path(path)


def _plotly_js() -> str:
    try:
        return str(import_module("plotly.offline").get_plotlyjs())
    except ImportError:
        raise NasError("the HTML report needs plotly: pip install 'lighthubert-nas[report]'") from None
