"""The subnet as ONNX, for onnxruntime: any batch size and length, in float32, float16 or int8."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from search_spaces import NasError, Subnet
from supernet.export.base import DTYPES, ModelExporter, Runner, require
from supernet.export.onnx_parts import OPSET, joined_graph, quiet
from supernet.export.torch_export import INPUTS, OUTPUTS, attention_mask
from supernet.layers import Hubert
from supernet.model import HubertSupernet

__all__ = ["OnnxExporter", "OnnxHubert", "RUNTIMES", "write_onnx"]

RUNTIMES = {18: "1.18", 19: "1.18", 20: "1.18", 21: "1.18", 22: "1.21"}  # tried: the first onnxruntime that loads each


class OnnxExporter(ModelExporter):
    """`model.onnx`, checked in onnxruntime."""

    dtypes = DTYPES
    max_difference: ClassVar[Mapping[str, float]] = {"fp32": 2e-4, "fp16": 2e-2, "int8": 5e-1}  # int8: see its score
    max_of_regression: ClassVar[float] = 1e-3  # on noise its slices have outliers, and amplify rounding (docs/log.md)
    opset = OPSET
    loading = """
# opset {opset}: onnxruntime >= {runtime}
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
wav = np.random.randn(2, 16_000).astype(np.float32)  # each utterance with mean 0 and variance 1, then zeros
mask = np.ones(wav.shape, dtype=np.int64)  # 0 where an utterance is padded
last, hidden_states = session.run(None, {{"input_values": wav, "attention_mask": mask}})  # (B, T, D), (L + 1, B, T, D)
"""

    def write(
        self, model: HubertSupernet, subnet: Subnet, folder: Path, about: Mapping[str, object], dtype: str
    ) -> None:
        write_onnx(model.extract(subnet), folder / "model.onnx", dtype, self.opset)

    def set_opset(self, opset: int) -> None:
        """Writes that opset from now on. Raises `NasError` for one that cannot be written."""
        if opset not in RUNTIMES:
            known = ", ".join(f"{each} (onnxruntime >= {runtime})" for each, runtime in RUNTIMES.items())
            raise NasError(f"--opset must be one of {known}; got {opset}")
        self.opset = opset

    def loading_fields(self, model: HubertSupernet, subnet: Subnet) -> Mapping[str, object]:
        return {"opset": self.opset, "runtime": RUNTIMES[self.opset]}

    def read(self, folder: Path, dtype: str) -> Runner:
        return OnnxHubert(folder / "model.onnx")


class OnnxHubert:
    """An ONNX file in onnxruntime on the CPU: wav (B, S), lengths (B,) or None -> hidden states."""

    def __init__(self, file: Path, threads: int = 1) -> None:
        require("onnx", "onnx", "onnxruntime")
        self.file, self.threads = file, threads
        self.session = _session(file, threads)
        self._encoder: Any = None

    def __call__(self, wav: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        feeds = dict(zip(INPUTS, (wav.numpy(), attention_mask(wav, lengths).numpy())))
        return tuple(torch.from_numpy(self.session.run([OUTPUTS[1]], feeds)[0]))

    def encode(self, features: Tensor, samples: int) -> tuple[Tensor, ...]:
        """Hidden states of front-end features (1, T, C) of `samples` samples, by the file without its front end."""
        if self._encoder is None:
            self._encoder = _session(_without_front_end(self.file), self.threads)
        cut, wav = self._encoder.get_inputs()[-1], torch.zeros(1, samples)
        values = features.half() if cut.type == "tensor(float16)" else features
        feeds = {INPUTS[0]: wav, INPUTS[1]: attention_mask(wav, None), cut.name: values}
        hidden = self._encoder.run([OUTPUTS[1]], {name: value.numpy() for name, value in feeds.items()})[0]
        return tuple(torch.from_numpy(hidden))


def _session(file: Path | bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def write_onnx(net: Hubert, file: Path, dtype: str = "fp32", opset: int = OPSET) -> None:
    """Writes `net` as one ONNX file; inputs and outputs are float32, whatever the `dtype` of the weights.

    int8 is onnxruntime's dynamic quantisation of every matrix product (signed weights, one scale per channel) and
    convolution (unsigned weights, because signed ones take twice as long), front end included. fp16 is onnxruntime's
    conversion: half the size, but CPUs still compute in float32.
    """
    require("onnx", "onnx", "onnx", "onnxscript", "onnxruntime")
    import onnx

    with quiet():
        graph = joined_graph(net.network, net.frame_rule, net.subnet, net.cpu().state_dict(), opset)
        if dtype == "fp16":
            from onnxruntime.transformers.float16 import convert_float_to_float16
            from onnxruntime.transformers.onnx_model import OnnxModel

            kept = [node.name for node in _spectrum(graph)]  # its powers are beyond float16
            model = OnnxModel(convert_float_to_float16(graph, keep_io_types=True, node_block_list=kept))
            model.topological_sort()
            graph = model.model
        if dtype == "int8":
            graph = _quantised(graph)
        onnx.checker.check_model(graph)
        onnx.save(graph, file)


def _without_front_end(file: Path) -> bytes:
    """The ONNX model with front-end features, the input of its first LayerNorm, as a third input."""
    import onnx

    model = onnx.load(file)
    norm = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    scale = next(each for each in model.graph.initializer if each.name == norm.input[1])
    before = next(node for node in model.graph.node if norm.input[0] in node.output)
    model.graph.node.remove(before)
    shape = ["batch", "frames", scale.dims[0]]
    model.graph.input.append(onnx.helper.make_tensor_value_info(norm.input[0], scale.data_type, shape))
    return bytes(model.SerializeToString())


def _spectrum(model: Any) -> list[Any]:
    """The nodes of a mel spectrogram: those that the first convolution depends on; none without a spectrogram."""
    graph = model.graph
    if not any(node.op_type == "STFT" for node in graph.node):
        return []
    makers = {output: node for node in graph.node for output in node.output}
    first = next(node for node in graph.node if node.op_type == "Conv")
    found: dict[str, Any] = {}
    waiting = [first.input[0]]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in found:
            found[node.name] = node
            waiting += node.input
    return list(found.values())


def _quantised(graph: Any) -> Any:
    """The ONNX model with int8 weights."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as scratch:
        plain, ready, products, whole = (Path(scratch) / f"{i}.onnx" for i in range(4))
        onnx.save(graph, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        kept = [node.name for node in _spectrum(onnx.load(ready))]
        quantize_dynamic(ready, products, ["MatMul"], True, weight_type=QuantType.QInt8, nodes_to_exclude=kept)
        quantize_dynamic(products, whole, ["Conv"], weight_type=QuantType.QUInt8)
        return onnx.load(whole)
