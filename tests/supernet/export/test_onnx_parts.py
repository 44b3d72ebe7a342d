"""ONNX graphs joined from parts: of every family, rotated too, and in every dtype and opset."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from search_spaces import Subnet
from search_spaces.proposals import proposed_space
from supernet import load_supernet
from supernet.export import export_subnet
from supernet.export.onnx_file import RUNTIMES
from supernet.export.onnx_parts import OPSET, joined_graph
from supernet.rotation import rotated
from tests.supernet.families import saved

WAV = 0.1 * torch.randn(2, 12_000, generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(12_000) < torch.tensor([[12_000], [7_000]])).long()


def run(graph):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input_values": WAV.numpy(), "attention_mask": MASK.numpy()})


def check(model, subnet, opset=OPSET):
    net = model.extract(subnet)
    graph = joined_graph(net.network, net.frame_rule, subnet, net.state_dict(), opset)
    onnx.checker.check_model(graph, full_check=True)
    last, hidden = run(graph)
    with torch.inference_mode():
        expected = torch.stack(net(WAV, MASK.sum(1)).hidden_states).numpy()
    assert np.abs(hidden - expected).max() < 2e-5 * np.abs(expected).max()
    assert np.array_equal(last, hidden[-1])
    return graph


@pytest.mark.parametrize(
    "name", ["wavlm-large", "whisper", "data2vec", "hubert-base", "rotated xls-r", "rotated whisper"]
)
def test_parts_of_every_family_are_joined(name, tmp_path):
    saved(name.removeprefix("rotated "), tmp_path)
    model = load_supernet(tmp_path)
    if name.startswith("rotated"):
        space = proposed_space(replace(model.space.network, rotated=True), "fine")
        model = rotated(model, [0.1 * torch.randn(16_000)], space)
    rng = np.random.default_rng(0)
    for subnet in (model.space.largest, *(model.space.sample(rng) for _ in range(3))):
        check(model, subnet)


@pytest.mark.slow
def test_subnets_of_the_shipped_supernet_are_joined():
    model, rng = load_supernet("hubert-tiny"), np.random.default_rng(0)
    for subnet in (model.space.sample(rng) for _ in range(3)):
        check(model, subnet)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", ["wavlm-large", "whisper"])
def test_exports_without_halves_are_the_slice_in_every_dtype(name, dtype, tmp_path):
    """WavLM Large has pre-norm layers, layer-normed convolutions and relative positions; Whisper the rest."""
    saved(name, tmp_path / "source")
    model = load_supernet(tmp_path / "source")
    most = max(model.space.ffn_ratios[0])
    subnet = Subnet(model.space.network.width, (2, 0, 1), (most, most / 2, 0.0))
    export_subnet(model, subnet, tmp_path / "out", ["onnx"], {}, dtype)


def test_the_oldest_opset_is_joined_too(tmp_path):
    saved("hubert-base", tmp_path)
    model = load_supernet(tmp_path)
    graph = check(model, model.space.largest, min(RUNTIMES))
    assert [each.version for each in graph.opset_import] == [min(RUNTIMES)]


def test_nothing_of_this_machine_is_in_a_graph(tmp_path):
    """torch's exporter notes with each node where in the sources it was made."""
    saved("hubert-base", tmp_path)
    model = load_supernet(tmp_path)
    text = str(check(model, model.space.middle))
    assert "stack_trace" not in text
    assert str(Path(torch.__file__).parent.parent) not in text
