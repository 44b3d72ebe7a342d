"""The settings of a search."""

import subprocess
import sys

from nas.settings import ClusterSettings, SearchSettings, parse_budget, shipped_supernets
from search_spaces import Budget
from supernet import shipped


def test_the_names_of_shipped_supernets_are_those_of_load_supernet():
    assert shipped_supernets() == shipped()


def test_importing_settings_imports_neither_torch_nor_typer():
    code = (
        "import nas.settings as s, sys; s.shipped_supernets(); "
        "sys.exit('torch' in sys.modules or 'typer' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_budgets_on_any_cost_are_parsed():
    assert parse_budget("energy_ms<=3") == Budget("energy_ms", 3)


def test_run_json_keeps_what_it_kept_before():
    keys = ["supernet", "budgets", "searcher", "score", "objectives", "evals", "seed", "space", "batch"]
    keys += ["asynchronous", "macs_seconds", "device", "precision", "successive", "audio", "teacher", "uniform"]
    keys += ["holdout"]
    assert set(SearchSettings().to_dict()) == set(keys)
    assert ClusterSettings().ray is None
