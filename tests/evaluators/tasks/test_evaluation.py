"""Tasks end to end on a tiny subnet: a frozen random network distinguishes tones."""

import pytest

from evaluators.tasks import evaluate
from evaluators.tasks.features import load_upstream
from evaluators.tasks.settings import FitSettings
from search_spaces import NasError
from supernet import save_supernet

QUICK = FitSettings((1e-2,), seeds=2, epochs=30, batch=8)


def test_one_recording_of_a_supernet_and_a_subnet(model, manifest, tmp_path):
    folder = save_supernet(model, tmp_path / "s")
    space = model.space
    for subnet in (space.smallest, None):
        upstream = load_upstream(folder, subnet)
        assert upstream.layers == (subnet or space.largest).depth + 1
    with pytest.raises(NasError, match="unknown task 'taste'; known: speaker"):
        evaluate(upstream, "taste", manifest)
