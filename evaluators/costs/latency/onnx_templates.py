"""Subnets as ONNX graphs for timing, without exporting each: the exporter's graph of one depth, other weights in it.

The exporter takes seconds a subnet, and its graphs of one depth differ in sizes alone. So one subnet of each depth is
exported, in which each layer has sizes that no other layer has, so that every constant can be identified.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from search_spaces import NasError, Network, Subnet
from search_spaces.types import JsonObject
from supernet.layers import Hubert

__all__ = ["OnnxTemplates"]

_FIRST_HEADS = 211  # more than any other size in the graph


class OnnxTemplates:
    """`templates(net)`: the ONNX model of `net` as bytes, equal to that of `write_onnx` up to shared constants."""

    def __init__(self, network: Network, frame_rule: str) -> None:
        self.network, self.frame_rule = network, frame_rule
        self._exported: dict[int, Any] = {}

    def __call__(self, net: Hubert) -> bytes:
        import onnx
        from onnx import numpy_helper

        depth = net.subnet.depth
        if depth not in self._exported:
            self._exported[depth] = self._export(depth)
        model = onnx.ModelProto()
        model.CopyFrom(self._exported[depth])
        graph = model.graph
        weights = {name: value.detach().numpy() for name, value in net.state_dict().items()}
        products = _products(graph)
        for held in graph.initializer:
            value = self._value(held, weights, products, net.subnet)
            if value is not None:
                held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), held.name))
        for output in graph.output:
            output.type.tensor_type.shape.dim[-1].dim_value = net.subnet.embed_dim
        return model.SerializeToString()  # type: ignore[no-any-return]

    def _value(self, held: Any, weights: JsonObject, products: dict[str, str], subnet: Subnet) -> Any:
        """The value of the constant `held` in `subnet`, or None if it is the same in all."""
        from onnx import numpy_helper

        name = held.name.removeprefix("net.")
        if name in weights:
            return weights[name]
        if held.name in products:
            return weights[products[held.name]].T
        if list(held.dims) in ([], [1]) and held.data_type == 7:  # int64
            value = numpy_helper.to_array(held)
            for layer, heads in enumerate(subnet.heads):
                template = _FIRST_HEADS + layer
                for stands_for, now in (
                    (template, heads),
                    (template * self.network.head_dim, heads * self.network.head_dim),
                ):
                    if value == stands_for:
                        return np.full(value.shape, now, dtype=np.int64)
        if int(np.prod(held.dims)) > 64:
            raise NasError(f"cannot time this subnet in onnxruntime: the exporter's graph holds an unknown {held.name}")
        return None

    def _export(self, depth: int) -> Any:
        import onnx

        from supernet.export.onnx_file import write_onnx

        D = self.network.pos_conv_groups
        subnet = Subnet(D, tuple(range(_FIRST_HEADS, _FIRST_HEADS + depth)), (2.0,) * depth)
        net = Hubert(self.network, subnet, self.frame_rule).eval()
        generator = torch.Generator().manual_seed(0)
        for parameter in net.parameters():  # equal ones would become one constant
            parameter.data = torch.randn(parameter.shape, generator=generator)
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "template.onnx"
            write_onnx(net, file)
            model = onnx.load(file)
        for held in model.graph.initializer:
            if held.name.removeprefix("net.") in net.state_dict() or int(np.prod(held.dims)) > 64:
                held.ClearField("raw_data")  # only sizes are wanted; these weights are large
        return model


def _products(graph: Any) -> dict[str, str]:
    """Constants that are a linear layer's transposed weight, by the bias that is added to the product."""
    taken = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    result = {}
    for node in graph.node:
        if node.op_type == "Add" and node.input[0] in taken and node.input[1].endswith(".bias"):
            result[taken[node.input[0]]] = node.input[1].removeprefix("net.").removesuffix("bias") + "weight"
    return result
