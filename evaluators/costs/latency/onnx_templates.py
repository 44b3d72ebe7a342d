"""Subnets as ONNX graphs for timing, without exporting each: the exporter's graphs of their parts, joined.

The exporter takes seconds a layer, and the halves of all layers have the same graph but for sizes. So each kind of part
(what is before the layers, either half of a layer, either half that is taken away, the final norm) is exported once,
with sizes that nothing else has, so that every constant can be identified; a subnet is made of copies of these.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces import NasError, Network, Subnet
from supernet.layers import EncoderLayer, Hubert, StreamNorm, attention, speech_frames

__all__ = ["OnnxTemplates", "random_weights"]

_HEADS = 211  # more than any other size in the graph of a half
_FEW = 64  # more values than this are a weight
_KEPT = 32  # exported parts of each kind in this process


class OnnxTemplates:
    """`templates(subnet, weights)`: a subnet's ONNX model as bytes, equal to `write_onnx`'s up to shared constants.

    `weights`: by the names of the subnet's `Hubert`.
    """

    def __init__(self, network: Network, frame_rule: str) -> None:
        self.network, self.frame_rule = network, frame_rule

    def __call__(self, subnet: Subnet, weights: Mapping[str, Tensor]) -> bytes:
        joined = _Joined(self._begin(subnet).opset)
        states = joined.add(self._begin(subnet), "begin", [], weights, "net.", 0)
        projected, x, keys = states[0], states[1], states[2:]
        hidden = [projected]
        for i, (heads, ffn_dim) in enumerate(zip(subnet.heads, subnet.ffn_dims, strict=True)):
            for half, size, inputs in (("attend", heads, keys), ("feed", ffn_dim, [])):
                if heads or ffn_dim:
                    part = self._half(half, subnet.embed_dim, size)
                    name = f"{half}.{i}"
                    (x,) = joined.add(part, name, [x, *inputs][: part.inputs], weights, f"encoder.layers.{i}.", heads)
            hidden.append(x)
        if self.network.norm_first:
            (hidden[-1],) = joined.add(self._end(subnet), "end", [x], weights, "encoder.", 0)
        missing = self.network.width - subnet.embed_dim if self.network.rotated else 0
        return joined.finish(hidden, self._begin(subnet), subnet.embed_dim, missing)

    def _begin(self, subnet: Subnet) -> _Part:
        network = self.network
        sized = network.mel or network.rotated or network.positions == "stack"  # their graphs hold the width
        D = subnet.embed_dim if sized else network.pos_conv_groups
        return _exported_begin(network, self.frame_rule, D, subnet.front_end)

    def _half(self, half: str, D: int, size: int) -> _Part:
        return _exported_half(self.network, half, D if self.network.relative_buckets else 8, size > 0)

    def _end(self, subnet: Subnet) -> _Part:
        return _exported_end(self.network, subnet.embed_dim if self.network.rotated else 8)


def random_weights(network: Network, subnet: Subnet, noise: Tensor) -> dict[str, Tensor]:
    """Random weights of a subnet, all from `noise` (N,), which must have as many numbers as the largest weight.

    What a graph computes does not matter to its time.
    """
    with torch.device("meta"):
        net = Hubert(network, subnet)
    weights: dict[str, Tensor] = {}
    for name, value in net.state_dict().items():
        if not value.is_floating_point():
            weights[name] = torch.arange(value.numel())
        else:
            part = noise[: value.numel()]  # a matrix is transposed, as the exporter's are, so that nothing is copied
            weights[name] = part.view(*reversed(value.shape)).T if value.dim() == 2 else part.view(value.shape)
    return weights


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
    """An exported part: its graph, and for each constant what stands there in a subnet."""

    def __init__(self, module: nn.Module, model: Any) -> None:
        self.graph, self.opset = model.graph, model.opset_import[0].version
        self.inputs = len(self.graph.input)
        names = module.state_dict()
        lone = [name for name in ("layer.k.weight", "net.encoder.entry.weight") if name in names]
        products = _products(self.graph, lone)
        self.weights: dict[str, tuple[str, bool]] = {}  # constant -> (weight, transposed)
        for held in self.graph.initializer:
            if held.name in names:
                self.weights[held.name] = held.name, False
            elif held.name in products:
                self.weights[held.name] = products[held.name], True
            elif relative := _of_relative_positions(held):
                self.weights[held.name] = f"layer.relative.{relative}", False
            elif int(np.prod(held.dims)) > _FEW and not isinstance(
                module, _Begin
            ):  # its constants have their own sizes
                raise NasError(f"cannot time this subnet in onnxruntime: its graph holds an unknown {held.name}")


@lru_cache(_KEPT)
def _exported_begin(network: Network, frame_rule: str, D: int, front_end: tuple[int, ...]) -> _Part:
    net = Hubert(network, Subnet(D, (0,), (0.0,), front_end), frame_rule)
    wav = torch.randn(2, 24_000, generator=torch.Generator().manual_seed(0))
    return _export(_Begin(net), (wav, torch.ones_like(wav, dtype=torch.int64)))


@lru_cache(_KEPT)
def _exported_half(network: Network, half: str, D: int, kept: bool) -> _Part:
    heads, ffn_dim = (_HEADS if kept else 0, 16) if half == "attend" else (1, 24 if kept else 0)
    layer = EncoderLayer(network, D, heads, ffn_dim)
    x, keys = torch.randn(2, 75, D), torch.ones(2, 1, 1, 75, dtype=torch.bool)
    masked = half == "attend" and kept and not network.mel
    return _export(_Half(layer, half), (x, keys) if masked else (x,))


@lru_cache(_KEPT)
def _exported_end(network: Network, D: int) -> _Part:
    return _export(_End(network, D), (torch.randn(2, 75, D),))


def _export(module: nn.Module, inputs: tuple[Tensor, ...]) -> _Part:
    from supernet.export.onnx_file import graph_of

    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():  # equal ones would become one constant
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return _Part(module, graph_of(module.eval(), inputs))


def _products(graph: Any, lone: Sequence[str]) -> dict[str, str]:
    """Constants that are a linear layer's transposed weight, by the bias that is added to the product.

    `lone`: the weight that may have no bias (of keys, or of the way into a rotated stream), the only such product.
    """
    taken = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    constants = {held.name for held in graph.initializer}
    result = {}
    for node in graph.node:
        if node.op_type == "Add":
            for product, bias in (node.input, reversed(node.input)):
                if product in taken and bias.endswith(".bias"):
                    result[taken[product]] = bias.removesuffix("bias") + "weight"
    rest = {weight for weight in taken.values() if weight in constants and weight not in result}
    rest = {weight for weight in rest if not weight.endswith(("filters", ".weight"))}
    if lone and len(rest) == 1:
        result[rest.pop()] = lone[0]
    return result


def _of_relative_positions(held: Any) -> str | None:
    """Which weight of `RelativePositions` a constant is, by its shape: the exporter names it anew."""
    if list(held.dims) == [_HEADS] and held.data_type == 7:  # int64
        return "blocks"
    return "weight" if len(held.dims) == 2 and held.dims[1] == _HEADS else None


class _Joined:
    """A model made of copies of parts, in place: its weights are hundreds of megabytes."""

    def __init__(self, opset: int) -> None:
        import onnx

        self.model = onnx.ModelProto(ir_version=10, opset_import=[onnx.helper.make_opsetid("", opset)])
        self.graph = self.model.graph

    def add(
        self, part: _Part, name: str, inputs: list[str], weights: Mapping[str, Tensor], prefix: str, heads: int
    ) -> list[str]:
        """Appends a copy of `part`, whose `inputs` are names in this graph; returns the names of its outputs.

        Its weights are found in `weights` under `prefix` instead of the part's own. Inputs that are not given keep
        their names.
        """
        renamed = {value.name: given for value, given in zip(part.graph.input, inputs)}
        for held in part.graph.initializer:
            renamed[held.name] = f"{name}/{held.name}"
            self._add_constant(held, part, renamed[held.name], weights, prefix, heads)
        for node in part.graph.node:
            copy = self.graph.node.add()
            copy.CopyFrom(node)
            copy.name = f"{name}/{node.name}"
            renamed |= {output: f"{name}/{output}" for output in node.output if output}
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
            own = prefix + weight.partition(".")[2] if prefix != "net." else weight.removeprefix("net.")
            value = weights[own].detach().numpy()
            value = np.ascontiguousarray(value.T if transposed else value)
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

    def finish(self, hidden: list[str], begin: _Part, D: int, missing: int) -> bytes:
        """The whole model, with the exporter's inputs and outputs: the last hidden state, and all of them stacked.

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
        graph.node.append(helper.make_node("Concat", stacked, ["hidden_states"], axis=0))
        graph.node.append(helper.make_node("Identity", [hidden[-1]], ["last_hidden_state"]))
        graph.input.extend(begin.graph.input)
        for name, sizes in (("last_hidden_state", shape), ("hidden_states", [len(hidden), *shape])):
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))
        return self.model.SerializeToString()  # type: ignore[no-any-return]
