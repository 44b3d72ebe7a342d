"""The ONNX graph of a subnet, joined from graphs of its parts.

torch's exporter takes seconds a layer, and the halves of all layers have the same graph but for sizes. So each kind of
part (what is before the layers, either half of a layer, either half that is taken away, the final norm) is traced once
in a process, with sizes that nothing else has, so that every constant can be identified; a subnet is made of copies of
these.
"""

from __future__ import annotations

import logging
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces import NasError, Network, Subnet
from supernet.export.torch_export import INPUTS, OUTPUTS
from supernet.layers import EncoderLayer, Hubert, StreamNorm, attention, speech_frames

__all__ = ["OPSET", "joined_graph", "quiet"]

OPSET = 22  # from 23 on, torch writes attention as one node, and onnxruntime 1.32 rejects its broadcast mask

_HEADS = 211  # more than any other size in the graph of a half
_GROUP_NORM = 21  # from this opset on, torch writes a group norm as one node
_KEPT = 32  # traced parts of each kind in this process


def joined_graph(
    network: Network, frame_rule: str, subnet: Subnet, weights: Mapping[str, Tensor], opset: int = OPSET
) -> Any:
    """The ONNX model of a subnet. `weights`: by the names of its `Hubert`."""
    sized = not network.rotated and (network.mel or network.positions == "stack")  # their graphs hold the width
    D = subnet.embed_dim if sized else 2 * network.pos_conv_groups
    in_nodes = network.conv_norm != "group" or opset >= _GROUP_NORM  # or their graphs hold the channels
    begin = _traced_begin(network, frame_rule, D, () if in_nodes else subnet.front_end, opset)
    joined = _Joined(opset)
    states = joined.add(begin, "begin", [], weights, "", 0)
    projected, x, keys = states[0], states[1], states[2:]
    hidden = [projected]
    for i, (heads, ffn_dim) in enumerate(zip(subnet.heads, subnet.ffn_dims, strict=True)):
        for half, size, inputs in (("attend", heads, keys), ("feed", ffn_dim, [])):
            if heads or ffn_dim:
                part = _traced_half(network, half, subnet.embed_dim if network.relative_buckets else 8, size > 0, opset)
                (x,) = joined.add(
                    part, f"{half}.{i}", [x, *inputs][: part.inputs], weights, f"encoder.layers.{i}.", heads
                )
        hidden.append(x)
    if network.norm_first:
        end = _traced_end(network, opset)
        (hidden[-1],) = joined.add(end, "end", [x], weights, "encoder.", 0)
    missing = network.width - subnet.embed_dim if network.rotated else 0
    return joined.finish(hidden, subnet.embed_dim, missing)


@contextmanager
def quiet() -> Iterator[None]:
    """Hides the exporters' notes, such as that torchvision's operators are skipped."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.disable(logging.NOTSET)


# -------------------------------------------------------------------- parts


class _Begin(nn.Module):
    """input_values, attention_mask -> the projected input, the first layer's input and, if used, the keys' mask."""

    def __init__(self, net: Hubert) -> None:
        super().__init__()
        self.net = net

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        net = self.net
        features = net.front_end(input_values)
        samples, frames = input_values.shape[1], features.shape[1]
        mask = speech_frames(net.network, attention_mask.sum(-1), samples, frames, net.frame_rule)
        if net.encoder.hears_padding:
            return net.encoder.start(features)
        return (*net.encoder.start(features, mask), mask[:, None, None, :])


class _Half(nn.Module):
    """x (B, T, D) -> x, through one half of a layer."""

    def __init__(self, layer: EncoderLayer, half: str) -> None:
        super().__init__()
        self.layer, self.which = layer, half

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        if self.which == "feed":
            return self.layer.feed(x)
        return self.layer.attend(x, lambda q, k, v, relative: attention(q, k, v, keys, relative))


class _End(nn.Module):
    """What comes after the layers: the norm, and the way out of a rotated stream."""

    def __init__(self, network: Network, dim: int) -> None:
        super().__init__()
        parts: dict[str, nn.Module] = {"norm": nn.LayerNorm(dim)}
        if network.rotated:
            parts = {"norm": StreamNorm(network.width), "exit": nn.Linear(dim, network.width)}
        self.end = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        return self.end(x)  # type: ignore[no-any-return]


class _Part:
    """A traced part: its graph, and which of its constants are weights. These are random, and so known by value.

    Raises `NasError` for a constant that was computed from weights.
    """

    def __init__(self, module: nn.Module, model: Any) -> None:
        from onnx import numpy_helper

        self.graph = model.graph
        self.inputs = len(self.graph.input)
        self.weights: dict[str, tuple[str, bool]] = {}  # constant -> (name of the weight within the part, transposed)
        known: dict[bytes, tuple[str, bool]] = {}
        for name, held in (*module.named_parameters(), *module.named_buffers()):
            value = held.detach().numpy()
            known[value.T.tobytes()] = name, True
            known[value.tobytes()] = name, False
        given = module.state_dict()  # lacks tables that every network has alike
        for constant in self.graph.initializer:
            value = numpy_helper.to_array(constant)
            weight = known.get(value.tobytes())
            if weight and weight[0] in given:
                self.weights[constant.name] = weight[0].partition(".")[2], weight[1]
            elif weight is None and value.dtype.kind == "f" and len(np.unique(value)) > 1:
                raise NasError(f"cannot make an ONNX graph of this subnet: it holds an unknown {constant.name}")


@lru_cache(_KEPT)
def _traced_begin(network: Network, frame_rule: str, D: int, front_end: tuple[int, ...], opset: int) -> _Part:
    net = Hubert(network, Subnet(D, (0,), (0.0,), front_end), frame_rule)
    wav = torch.randn(2, 24_000, generator=torch.Generator().manual_seed(0))
    return _traced(_Begin(net), (wav, torch.ones_like(wav, dtype=torch.int64)), opset)


@lru_cache(_KEPT)
def _traced_half(network: Network, half: str, D: int, kept: bool, opset: int) -> _Part:
    heads, ffn_dim = (_HEADS if kept else 0, 16) if half == "attend" else (1, 24 if kept else 0)
    layer = EncoderLayer(network, D, heads, ffn_dim)
    x, keys = torch.randn(2, 75, D), torch.ones(2, 1, 1, 75, dtype=torch.bool)
    masked = half == "attend" and kept and not network.mel
    return _traced(_Half(layer, half), (x, keys) if masked else (x,), opset)


@lru_cache(_KEPT)
def _traced_end(network: Network, opset: int) -> _Part:
    return _traced(_End(network, 8), (torch.randn(2, 75, 8),), opset)


def _traced(module: nn.Module, inputs: tuple[Tensor, ...], opset: int) -> _Part:
    """The part for inputs with any batch and frames (or samples)."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():  # equal ones would become one constant
        parameter.data = torch.randn(parameter.shape, generator=generator)
    any_size = torch.export.Dim.DYNAMIC
    sizes = tuple({0: any_size, each.dim() - (2 if each.is_floating_point() and each.dim() == 3 else 1): any_size}
                  for each in inputs)  # fmt: skip
    with quiet():
        graph = torch.export.export(module.eval(), inputs, dynamic_shapes=sizes, strict=False)
        program = torch.onnx.export(graph, opset_version=opset, dynamo=True, verbose=False)
    assert program is not None
    return _Part(module, program.model_proto)


class _Joined:
    """A model made of copies of parts, in place: its weights are hundreds of megabytes."""

    def __init__(self, opset: int) -> None:
        import onnx

        version = [onnx.helper.make_opsetid("", opset)]
        self.model = onnx.ModelProto(ir_version=10, opset_import=version, producer_name="lighthubert-nas")
        self.graph = self.model.graph

    def add(
        self, part: _Part, name: str, inputs: list[str], weights: Mapping[str, Tensor], prefix: str, heads: int
    ) -> list[str]:
        """Appends a copy of `part`, whose `inputs` are names in this graph; returns the names of its outputs.

        Its weights are found in `weights` under `prefix`. Inputs that are not given keep their names.
        """
        renamed = {value.name: given for value, given in zip(part.graph.input, inputs)}
        for held in part.graph.initializer:
            renamed[held.name] = f"{name}/{held.name}"
            self._add_constant(held, part, renamed[held.name], weights, prefix, heads)
        for node in part.graph.node:
            copy = self.graph.node.add()
            copy.CopyFrom(node)
            copy.name = f"{name}/{node.name}"
            del copy.metadata_props[:]  # where in the sources of this machine the node was made
            renamed |= {output: f"{name}/{output}" for output in node.output if output}
            if node.op_type == "GroupNormalization":  # of one channel a group
                groups = next(each for each in copy.attribute if each.name == "num_groups")
                groups.i = len(weights[prefix + part.weights[node.input[1]][0]])
            copy.input[:] = [renamed.get(each, each) for each in node.input]
            copy.output[:] = [renamed.get(each, each) for each in node.output]
        return [renamed[value.name] for value in part.graph.output]

    def _add_constant(
        self, held: Any, part: _Part, name: str, weights: Mapping[str, Tensor], prefix: str, heads: int
    ) -> None:
        from onnx import TensorProto, numpy_helper

        copy = self.graph.initializer.add()
        if held.name in part.weights:
            weight, transposed = part.weights[held.name]
            value = weights[prefix + weight].detach().numpy()
            value = np.ascontiguousarray(value.T if transposed else value)
            if value.ndim < len(held.dims):  # a vector with axes of size 1
                value = value.reshape([1 if size == 1 else -1 for size in held.dims])
            copy.data_type = TensorProto.INT64 if value.dtype == np.int64 else TensorProto.FLOAT
            copy.dims[:] = value.shape
            copy.raw_data = value.tobytes()
        else:
            copy.CopyFrom(held)
            if held.data_type == TensorProto.INT64 and list(held.dims) in ([], [1]) and heads:
                value = numpy_helper.to_array(held)
                if value.item() and value.item() % _HEADS == 0:
                    copy.CopyFrom(numpy_helper.from_array(value // _HEADS * heads))
        copy.name = name

    def finish(self, hidden: list[str], D: int, missing: int) -> Any:
        """The whole model, with the last hidden state and all of them, stacked, as outputs.

        States between layers of `D` dims are padded by the `missing` ones.
        """
        from onnx import TensorProto, helper, numpy_helper

        graph, shape = self.graph, ["batch", "frames", D + missing]
        if missing:
            graph.initializer.append(numpy_helper.from_array(np.array([0] * 5 + [missing], dtype=np.int64), "pads"))
            for i, state in enumerate(hidden[1:-1], 1):
                graph.node.append(helper.make_node("Pad", [state, "pads"], [f"padded.{i}"]))
            hidden = [hidden[0], *(f"padded.{i}" for i in range(1, len(hidden) - 1)), hidden[-1]]
        graph.name = "subnet"
        graph.initializer.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "axis"))
        stacked = [f"stacked.{i}" for i in range(len(hidden))]
        for state, output in zip(hidden, stacked, strict=True):
            graph.node.append(helper.make_node("Unsqueeze", [state, "axis"], [output]))
        graph.node.append(helper.make_node("Concat", stacked, [OUTPUTS[1]], axis=0))
        graph.node.append(helper.make_node("Identity", [hidden[-1]], [OUTPUTS[0]]))
        for name, kind in zip(INPUTS, (TensorProto.FLOAT, TensorProto.INT64)):
            graph.input.append(helper.make_tensor_value_info(name, kind, ["batch", "samples"]))
        for name, sizes in zip(OUTPUTS, (shape, [len(hidden), *shape])):
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))
        return self.model
