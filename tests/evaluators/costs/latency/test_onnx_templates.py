"""ONNX graphs for timing equal the exporter's."""

import numpy as np
import pytest

from supernet import load_supernet


@pytest.mark.slow
def test_onnx_made_from_a_template_is_the_subnet():
    import onnxruntime
    import torch

    from evaluators.costs.latency.onnx_templates import OnnxTemplates

    model = load_supernet("hubert-tiny")
    templates, rng = OnnxTemplates(model.space.network, model.frame_rule), np.random.default_rng(0)
    wav = torch.randn(1, 8000)
    feeds = {"input_values": wav.numpy(), "attention_mask": np.ones((1, 8000), dtype=np.int64)}
    draws = [s for s in (model.space.sample(rng) for _ in range(20)) if s.depth == 11][:3]
    for subnet in draws:
        session = onnxruntime.InferenceSession(templates(model.extract(subnet)), providers=["CPUExecutionProvider"])
        (found,) = session.run(["last_hidden_state"], feeds)
        with torch.inference_mode(), model.active(subnet):
            expected = model(wav).last_hidden_state.numpy()
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
