"""ONNX graphs for timing equal the exporter's."""

from dataclasses import replace

import numpy as np
import pytest

from search_spaces.proposals import proposed_space
from supernet import load_supernet
from supernet.rotation import rotated
from tests.supernet.families import saved


@pytest.mark.parametrize(
    "name", ["wavlm-large", "whisper", "data2vec", "hubert-base", "rotated xls-r", "rotated whisper"]
)
def test_parts_of_every_family_are_joined(name, tmp_path):
    import onnxruntime
    import torch

    from evaluators.costs.latency.onnx_templates import OnnxTemplates, random_weights
    from supernet.layers import Hubert

    saved(name.removeprefix("rotated "), tmp_path)
    model = load_supernet(tmp_path)
    if name.startswith("rotated"):
        space = proposed_space(replace(model.space.network, rotated=True), "fine")
        model = rotated(model, [0.1 * torch.randn(16_000)], space)
    network, rng = model.space.network, np.random.default_rng(0)
    templates = OnnxTemplates(network, model.frame_rule)
    wav = 0.1 * torch.randn(2, 12_000)
    mask = (torch.arange(12_000) < torch.tensor([[12_000], [7_000]])).long()
    feeds = {"input_values": wav.numpy(), "attention_mask": mask.numpy()}
    for subnet in (model.space.largest, *(model.space.sample(rng) for _ in range(3))):
        net = model.extract(subnet)
        session = onnxruntime.InferenceSession(templates(subnet, net.state_dict()), providers=["CPUExecutionProvider"])
        last, hidden = session.run(None, feeds)
        with torch.inference_mode():
            expected = torch.stack(net(wav, mask.sum(1)).hidden_states).numpy()
        assert np.abs(hidden - expected).max() < 2e-5 * np.abs(expected).max()
        assert np.array_equal(last, hidden[-1])
        noise = random_weights(network, subnet, torch.randn(100_000))
        Hubert(network, subnet).load_state_dict(noise)


@pytest.mark.slow
def test_onnx_made_from_a_template_is_the_subnet():
    import onnxruntime
    import torch

    from evaluators.costs.latency.onnx_templates import OnnxTemplates

    model = load_supernet("hubert-tiny")
    templates, rng = OnnxTemplates(model.space.network, model.frame_rule), np.random.default_rng(0)
    wav = torch.randn(1, 8000)
    feeds = {"input_values": wav.numpy(), "attention_mask": np.ones((1, 8000), dtype=np.int64)}
    for subnet in (model.space.sample(rng) for _ in range(3)):
        graph = templates(subnet, model.extract(subnet).state_dict())
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        (found,) = session.run(["last_hidden_state"], feeds)
        with torch.inference_mode(), model.active(subnet):
            expected = model(wav).last_hidden_state.numpy()
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
