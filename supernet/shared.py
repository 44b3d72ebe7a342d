"""Many subnets on the same speech, with shared computations done once.

A subnet's hidden states depend on its front end and embed dim and then, step by step, on the heads and the FFN ratio of
each kept layer. A call traverses its subnets as a trie of these steps, depth first: a step that several subnets share
is computed once, a subnet that is a prefix of another costs nothing, and only states that are still needed for branches
are kept. A GPU waits for the launches of single steps, so there many branches are followed at once, and those that take
the same step are stacked.

The layers are `layers.EncoderLayer` modules on weights from `slicing`: one module per choice, on views of one slice per
layer and embed dim (float32 attention weights are views of the supernet's own). The frames of all utterances form one
matrix (N, D), without padding or masks; only attention and the positional convolution, which runs once per embed dim,
depend on where utterances begin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import lru_cache, partial
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from search_spaces import Network, Subnet
from supernet.layers import Encoder, EncoderLayer, Relative, RelativePositions, attention, front_channels
from supernet.model import HubertSupernet
from supernet.slicing import folded, narrow_layer, slice_layer, slice_start
from supernet.weights import on_meta

__all__ = ["SharedEncoder", "Speech"]

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)
Profile = tuple[int, ...]
Step = tuple[int, int]  # (layer, heads), then (layer, FFN dim)
MAX_BIASES = 1 << 26  # numbers of relative positions that are kept
MAX_STATES = 1 << 26  # numbers in the hidden states that a GPU follows at once
_GONE = -1  # instead of both, if both are 0


class Speech:
    """Front-end features (T, C) of utterances, shortest first; utterances of equal length form one batch."""

    def __init__(self, features: Sequence[Tensor], device: str = "cpu") -> None:
        self.lengths = [len(each) for each in features]
        if self.lengths != sorted(self.lengths):
            raise ValueError(f"utterances must be sorted, shortest first; got lengths {self.lengths}")
        self.buckets = [
            torch.stack(list(group)).to(device) for _, group in groupby(features, key=len)
        ]  # each (B, T, C)
        self._sizes = [bucket.shape[0] * bucket.shape[1] for bucket in self.buckets]
        self.frames = sum(self.lengths)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, relative: Relative | None = None) -> Tensor:
        """Attention (..., N, H, head dim) within each utterance."""
        inputs, before = (q, k, v) if relative is None else (q, k, v, relative[0]), q.shape[:-3]
        mixed = []
        for *parts, bucket in zip(
            *(torch.split(x, self._sizes, len(before)) for x in inputs), self.buckets, strict=True
        ):
            own = [x.reshape(-1, bucket.shape[1], *x.shape[len(before) + 1 :]) for x in parts]
            added = None if relative is None else (own[3], relative[1])
            mixed.append(attention(own[0], own[1], own[2], None, added).reshape(*before, -1, *q.shape[-2:]))
        return torch.cat(mixed, len(before))


class SharedEncoder:
    """Runs subnets of `model` on one `Speech`. The layers run in `dtype`, everything before them in float32.

    `speech`: the features of each front end, or those of the only one. Slices, and the input of the first layer for
    each front end and embed dim, are kept until the weights change.
    """

    def __init__(
        self, model: HubertSupernet, speech: Speech | Mapping[Profile, Speech], dtype: torch.dtype = torch.float32
    ) -> None:
        self.speeches = {model.space.front_ends[0]: speech} if isinstance(speech, Speech) else dict(speech)
        self.model, self.speech, self.dtype = model, next(iter(self.speeches.values())), dtype
        state = self.speech.frames * model.space.network.width
        self.at_once = max(1, MAX_STATES // state) if self.speech.buckets[0].is_cuda else 1
        self._versions: tuple[int, ...] = ()
        self._starts: dict[tuple[Profile, int], tuple[Tensor, Tensor]] = {}
        self._ends: dict[int, Encoder] = {}
        self._biases: dict[tuple[int, int], Tensor] = {}
        self._widest: dict[tuple[int, int], tuple[dict[str, Tensor], dict[str, Tensor]]] = {}
        self._folds: dict[tuple[int, int, str, int], dict[str, Tensor]] = {}
        self._layers: dict[tuple[int, int, int, int], EncoderLayer] = {}

    @torch.no_grad()
    def read(self, subnets: Sequence[Subnet], layers: Sequence[int], read: Callable[[int, Tensor], T]) -> list[list[T]]:
        """For each subnet and each k, `read(k, hidden)` of the hidden state (N, D) that represents `layers[k]`.

        That is the output of this layer (counted from 1), or of the last kept layer before it. `read` is called once
        per distinct state; the state is not kept afterwards.
        """
        for subnet in subnets:
            self.model.space.check(subnet)
        self._forget_old_weights()
        walk = _Walk(self, subnets, layers, read)
        for D in sorted({subnet.embed_dim for subnet in subnets}):
            walk.start(D)
        return [[values[k] for k in range(len(layers))] for values in walk.values]

    def start(self, front_end: Profile, D: int) -> tuple[Tensor, Tensor]:
        """The projected input and the input of the first layer, each (N, D)."""
        key = (front_end, D)
        if key not in self._starts:
            encoder = self._outside(Subnet(D, (1,), (1.0,), front_end))
            parts = zip(*(encoder.start(bucket) for bucket in self.speeches[front_end].buckets), strict=True)
            projected, x = (torch.cat([part.flatten(0, 1) for part in each]).to(self.dtype) for each in parts)
            self._starts[key] = projected, x
        return self._starts[key]

    def finish(self, x: Tensor) -> Tensor:
        """The last hidden state (N, D) from the output of the last layer."""
        if not self.model.space.network.norm_first:
            return x
        D = x.shape[-1]
        if D not in self._ends:
            self._ends[D] = self._outside(Subnet(D, (1,), (1.0,), self.model.space.front_ends[0]))
        return self._ends[D].finish(x.float()).to(self.dtype)

    def _outside(self, subnet: Subnet) -> Encoder:
        """What is before and after the layers of a subnet."""
        network = self.model.space.network
        with on_meta():
            encoder = Encoder(network, subnet)
        sliced = slice_start(self._stored, network, subnet.embed_dim, front_channels(network, subnet)[-1])
        encoder.load_state_dict(sliced, strict=False, assign=True)
        return encoder

    def layer(self, D: int, layer: int, heads: int, ffn_dim: int) -> EncoderLayer:
        """The plain layer with these choices, on views of the slice for this layer and embed dim."""
        key = (D, layer, heads, ffn_dim)
        if key not in self._layers:
            space = self.model.space
            network, max_heads = space.network, max(space.heads[layer])
            if (D, layer) not in self._widest:
                max_ffn_dim = int(max(space.ffn_ratios[layer]) * D)
                exact = slice_layer(self._stored, network, layer, D, max_heads, max_ffn_dim, fold=False)
                self._widest[D, layer] = exact, {name: _cast(value, self.dtype) for name, value in exact.items()}
            exact, widest = self._widest[D, layer]
            narrowed = narrow_layer(widest, network, heads, ffn_dim)
            for part, kept in (("out", heads * network.head_dim), ("fc2", ffn_dim)) if narrowed else ():
                narrowed |= self._folded(exact, (D, layer, part, kept))
            module = _on_weights(_empty_layer(network, D, heads, ffn_dim), narrowed)
            if module.relative is not None:
                own = partial(self._bias, layer, RelativePositions.bias, module.relative)
                setattr(module.relative, "bias", own)  # noqa: B010 - it stands for the method
            self._layers[key] = module
        return self._layers[key]

    def _folded(self, exact: Mapping[str, Tensor], key: tuple[int, int, str, int]) -> dict[str, Tensor]:
        """What `slicing.folded` gives; kept, for half a layer is the same beside each choice for the other half."""
        if key not in self._folds:
            own = folded(exact, *key[2:])
            self._folds[key] = {name: _cast(value, self.dtype) for name, value in own.items()}
        return self._folds[key]

    def _bias(
        self, layer: int, compute: Callable[[RelativePositions, int], Tensor], own: RelativePositions, frames: int
    ) -> Tensor:
        """The biases (H, T, T) of a layer's first heads, kept as far as there is room."""
        heads, known = own.weight.shape[1], self._biases.get((layer, frames))
        if known is None or len(known) < heads:
            known = compute(own, frames)
            if sum(each.numel() for each in self._biases.values()) + known.numel() <= MAX_BIASES:
                self._biases[layer, frames] = known
        return known[:heads]

    @property
    def _stored(self) -> dict[str, Tensor]:
        return self.model.stored_weights()

    def _forget_old_weights(self) -> None:
        versions = tuple(value._version for value in self.model.encoder.parameters())
        if versions != self._versions:
            self._versions = versions
            for kept in (self._starts, self._ends, self._widest, self._folds, self._layers, self._biases):
                kept.clear()


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


@lru_cache(maxsize=4096)
def _empty_layer(network: Network, D: int, heads: int, ffn_dim: int) -> EncoderLayer:
    with on_meta():
        return EncoderLayer(network, D, heads, ffn_dim).requires_grad_(False)


def _on_weights(empty: EncoderLayer, weights: Mapping[str, Tensor]) -> EncoderLayer:
    """A layer like `empty` on these weights. `load_state_dict` does the same in ten times the time."""
    layer = _bare_copy(empty)
    for name, value in weights.items():
        *path, last = name.split(".")
        module = layer
        for part in path:
            module = module._modules[part]  # type: ignore[assignment]
        kind = module._parameters if last in module._parameters else module._buffers
        kind[last] = value  # type: ignore[assignment]
    return layer


def _bare_copy(module: M) -> M:
    """A copy whose weights can be set without changing those of `module`."""
    result = copy(module)
    result._parameters, result._buffers = dict(module._parameters), dict(module._buffers)
    result._modules = {name: None if sub is None else _bare_copy(sub) for name, sub in module._modules.items()}
    return result


class _Node(NamedTuple):
    """Rows that have taken the same steps, up to layer `last`: these gave `x`, and `hidden` for readers."""

    rows: list[int]
    last: int
    x: Tensor
    hidden: Tensor


class _Walk(Generic[T]):
    """One call of `SharedEncoder.read`: `values[row][k]` is the value of subnet `row` for `layers[k]`."""

    def __init__(
        self,
        encoder: SharedEncoder,
        subnets: Sequence[Subnet],
        layers: Sequence[int],
        read: Callable[[int, Tensor], T],
    ) -> None:
        self.encoder, self.subnets, self.layers, self.read = encoder, subnets, layers, read
        self.values: list[dict[int, T]] = [{} for _ in subnets]
        self.paths = [self._path(subnet) for subnet in subnets]

    def _path(self, subnet: Subnet) -> list[Step]:
        layers = zip(self.encoder.model.space.kept_layers(subnet.depth), subnet.heads, subnet.ffn_dims, strict=True)
        return [
            (layer, chosen if heads or ffn_dim else _GONE)
            for layer, heads, ffn_dim in layers
            for chosen in (heads, ffn_dim)
        ]

    def start(self, D: int) -> None:
        """Reads the values of all subnets of this embed dim."""
        rows: dict[Profile, list[int]] = {}
        for row, subnet in enumerate(self.subnets):
            if subnet.embed_dim == D:
                rows.setdefault(subnet.front_end, []).append(row)
        starts = {front_end: self.encoder.start(front_end, D) for front_end in sorted(rows)}
        self._follow([_Node(rows[front_end], -1, x, hidden) for front_end, (hidden, x) in starts.items()], 0)

    def _follow(self, nodes: list[_Node], at: int) -> None:
        """Reads the values of all rows of `nodes`, which have taken `at` steps."""
        while nodes:
            due: list[tuple[Tensor, Step, list[int]]] = []
            for node in nodes:
                branches: dict[Step, list[int]] = {}
                ended = []
                for row in node.rows:
                    if at < len(self.paths[row]):
                        branches.setdefault(self.paths[row][at], []).append(row)
                    else:
                        ended.append(row)
                if at % 2 == 0:
                    self._read(ended, branches, node.last, node.hidden)
                due += [(node.x, step, rows) for step, rows in branches.items()]
            while len(due) > self.encoder.at_once:
                self._follow(self._taken(due[: self.encoder.at_once], at), at + 1)
                del due[: self.encoder.at_once]
            nodes, at = self._taken(due, at), at + 1

    def _taken(self, due: Sequence[tuple[Tensor, Step, list[int]]], at: int) -> list[_Node]:
        """The nodes after the steps that are due; the states of those that take the same step are stacked for it."""
        alike: dict[Step, list[tuple[Tensor, list[int]]]] = {}
        for x, step, rows in due:
            alike.setdefault(step, []).append((x, rows))
        nodes = []
        for step, members in alike.items():
            if len(members) == 1:
                states: Sequence[Tensor] = (self._take(step, at, members[0][0]),)
            else:
                states = self._take(step, at, torch.stack([x for x, _ in members])).unbind()
            nodes += [_Node(rows, step[0], x, x) for x, (_, rows) in zip(states, members, strict=True)]
        return nodes

    def _read(self, ended: list[int], branches: dict[Step, list[int]], last: int, hidden: Tensor) -> None:
        """Reads `hidden` for the layers that it represents: from the last one run to the one before the next kept."""
        norms_end = self.encoder.model.space.network.norm_first  # then the last state of a subnet is one of its own
        for k, layer in enumerate(self.layers):
            if last < layer:
                due = [row for step, rows in branches.items() if layer <= step[0] for row in rows]
                self._read_for(k, hidden, due if norms_end else due + ended)
        if norms_end and ended:
            final = self.encoder.finish(hidden)
            for k, layer in enumerate(self.layers):
                if last < layer:
                    self._read_for(k, final, ended)

    def _read_for(self, k: int, hidden: Tensor, rows: list[int]) -> None:
        value = self.read(k, hidden) if rows else None
        for row in rows:
            self.values[row][k] = value  # type: ignore[assignment]

    def _take(self, step: Step, at: int, x: Tensor) -> Tensor:
        """The state after half a layer. The module's other half is not used, so any choice for it will do."""
        (layer, chosen), D = step, x.shape[-1]
        space = self.encoder.model.space
        if chosen == _GONE:
            return x
        if at % 2 == 0:
            return self.encoder.layer(D, layer, chosen, int(space.ffn_ratios[layer][-1] * D)).attend(
                x, self.encoder.speech.mix
            )
        return self.encoder.layer(D, layer, space.heads[layer][-1], chosen).feed(x)
