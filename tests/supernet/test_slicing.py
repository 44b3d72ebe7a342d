"""A layer cut for its most heads and units holds every narrower cut as its first rows and columns."""

import pytest
import torch

from search_spaces import get_space
from supernet.slicing import narrow_layer, slice_layer


@pytest.mark.parametrize("name", ["hubert-tiny", "lighthubert-small", "lighthubert-base"])
def test_a_narrower_layer_is_the_first_of_the_widest(name):
    space = get_space(name)
    network, D = space.network, space.embed_dims[0]
    width, inner, F = network.width, network.heads * network.head_dim, network.ffn_dim
    shapes = {
        "q.weight": (inner, width), "q.bias": (inner,), "k.weight": (inner, width), "k.bias": (inner,),
        "v.weight": (inner, width), "v.bias": (inner,), "out.weight": (width, inner), "out.bias": (width,),
        "attention_norm.weight": (width,), "attention_norm.bias": (width,), "fc1.weight": (F, width),
        "fc1.bias": (F,), "fc2.weight": (width, F), "fc2.bias": (width,), "final_norm.weight": (width,),
        "final_norm.bias": (width,),
    }  # fmt: skip
    stored = {f"layers.3.{key}": torch.randn(shape) for key, shape in shapes.items()}
    widest = slice_layer(stored, network, 3, D, max(space.heads[3]), int(max(space.ffn_ratios[3]) * D))
    for heads, ratio in space.choices[3]:
        expected = slice_layer(stored, network, 3, D, heads, int(ratio * D))
        narrowed = narrow_layer(widest, heads * network.head_dim, int(ratio * D))
        assert set(narrowed) == set(expected) == set(shapes)
        assert all(torch.equal(narrowed[key], value) for key, value in expected.items())
