"""Classes and speaker verification."""

import pytest
import torch

from evaluators.tasks import evaluate
from evaluators.tasks.features import load_upstream
from evaluators.tasks.settings import FitSettings

QUICK = FitSettings((1e-2,), seeds=2, epochs=30, batch=8)


def test_speakers_are_found_and_verified(exported, manifest):
    upstream = load_upstream(exported)
    found = evaluate(upstream, "speaker", manifest, QUICK)
    assert found["results"]["accuracy"]["value"] > 0.8
    assert len(found["results"]["accuracy"]["by_seed"]) == 2
    assert found["data"]["classes"] == 3
    assert found["chance"] == 0.3333
    assert sum(found["head"]["layer_weights"][0]) == pytest.approx(1, abs=1e-3)
    checked = evaluate(upstream, "verification", manifest, QUICK)["results"]
    assert checked["trials"] == 15
    assert checked["eer"]["value"] < 0.5
    assert 0 <= checked["min_dcf"]["value"] <= 1


def test_means_are_all_that_a_linear_head_needs():
    from evaluators.tasks.heads import UtteranceHead

    torch.manual_seed(0)
    head = UtteranceHead(3, 4, 2).eval()
    with torch.no_grad():
        head.sum.logits.normal_()
    frames = torch.randn(3, 9, 4)
    by_frame = head.linear(head.norm(head.sum(frames))).mean(0)
    assert torch.allclose(head(frames.mean(1, keepdim=True))[0], by_frame, atol=1e-6)
