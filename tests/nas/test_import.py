from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nas

ROOT = Path(nas.__file__).parents[1]


@pytest.mark.parametrize(
    "modules",
    [
        "nas, nas.report, nas.searchers.random, nas.searchers.evolution",
        "evaluators.costs, evaluators.scores, evaluators.tasks",
    ],
)
def test_importing_does_not_import_torch(modules):
    code = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_searching_does_not_import_evaluators():
    code = "import nas.report, sys; sys.exit(any(m.split('.')[0] in ('evaluators', 'supernet') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_loading_a_supernet_does_not_import_torchs_compiler():
    code = (
        "from supernet import load_supernet; load_supernet('hubert-tiny'); import sys; sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_all_is_sorted_and_complete():
    assert nas.__all__ == sorted(nas.__all__)
    assert all(hasattr(nas, name) for name in nas.__all__)
