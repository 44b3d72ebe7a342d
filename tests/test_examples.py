"""The notebook runs as people run it: in a kernel of its own, from top to bottom."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


def test_the_notebook_runs_and_is_kept_without_outputs(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(ROOT / "examples" / "search.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [output.get("data", {}) for cell in cells for output in cell.outputs]
    assert sum("SearchResult" in data.get("text/html", "") for data in shown) == 2
    assert any("application/vnd.plotly.v1+json" in data for data in shown)
    assert "(1, 49, " in shown[-1]["text/plain"]
