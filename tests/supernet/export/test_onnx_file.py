import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from search_spaces import CheckFailed
from supernet.export import export_subnet, get_exporter
from supernet.export.onnx_file import OPSET, OnnxHubert

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def exported(request, supernet, small_space, tmp_path_factory):
    """(folder, dtype) of the space's middle subnet as ONNX."""
    folder = tmp_path_factory.mktemp(request.param)
    export_subnet(supernet, small_space.middle, folder, ["onnx"], {}, request.param)
    return folder, request.param


def test_names_sizes_and_opset_are_those_promised(exported, small_space):
    folder, dtype = exported
    dim, states = small_space.middle.embed_dim, small_space.middle.depth + 1
    graph = onnx.load(folder / "model.onnx")
    sizes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.graph.input, *graph.graph.output]
    }
    assert sizes == {
        "input_values": ["batch", "samples"],
        "attention_mask": ["batch", "samples"],
        "last_hidden_state": ["batch", "frames", dim],
        "hidden_states": [states, "batch", "frames", dim],
    }
    assert {each.domain: each.version for each in graph.opset_import}[""] == OPSET
    kinds = {node.op_type for node in graph.graph.node}
    assert ("ConvInteger" in kinds and "MatMulInteger" in kinds and "Conv" not in kinds) == (dtype == "int8")
    halves = {each.data_type == onnx.TensorProto.FLOAT16 for each in graph.graph.initializer if len(each.dims) > 1}
    assert (True in halves) == (dtype == "fp16")


def test_any_batch_and_length_runs_as_the_slice_does(exported, supernet, small_space):
    folder, dtype = exported
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for batch, samples in ((1, 1_000), (3, 20_000)):
        wav = torch.randn(batch, samples, generator=torch.Generator().manual_seed(batch))
        lengths = torch.linspace(samples, samples / 2, batch).long()
        mask = (np.arange(samples) < lengths.numpy()[:, None]).astype(np.int64)
        last, hidden = session.run(None, {"input_values": wav.numpy(), "attention_mask": mask})
        with torch.no_grad(), supernet.active(small_space.middle):
            ours = supernet(wav, lengths).hidden_states
        assert np.array_equal(last, hidden[-1])
        most = {"fp32": 1e-4, "fp16": 2e-2, "int8": 0.5}[dtype]
        np.testing.assert_allclose(hidden, torch.stack(ours).numpy(), rtol=0, atol=most * float(ours[-1].abs().max()))


def test_a_file_of_other_weights_fails_the_check(exported, supernet, small_space):
    folder, dtype = exported
    with torch.no_grad():
        for value in supernet.parameters():
            value.neg_()
    try:
        with pytest.raises(CheckFailed, match="differs from the supernet's slice"):
            get_exporter("onnx").check(supernet, small_space.middle, folder, dtype)
    finally:
        with torch.no_grad():
            for value in supernet.parameters():
                value.neg_()


def test_threads_are_the_callers_choice(exported):
    assert OnnxHubert(exported[0] / "model.onnx", threads=2).session.get_session_options().intra_op_num_threads == 2
