"""Slices: LightHuBERT's blocks of FFN units, and narrower slices as prefixes of wider ones."""

import pytest
import torch

from search_spaces import get_space
from supernet.slicing import ffn_segments, narrow_layer, slice_layer, weight_normed
from tests.spaces import COARSE


@pytest.mark.parametrize("name", ["coarse", "lighthubert-small", "lighthubert-base"])
def test_a_narrower_layer_is_the_first_of_the_widest(name):
    space = COARSE if name == "coarse" else get_space(name)
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
        narrowed = narrow_layer(widest, network, heads, int(ratio * D))
        assert set(narrowed) == set(expected) == set(shapes)
        assert all(torch.equal(narrowed[key], value) for key, value in expected.items())


def test_ffn_units_are_stored_in_blocks():
    """LightHuBERT, FACTS: ratio 3.5 at E = 640 takes 640 + 640 + 640 + 320 of four blocks of 768."""
    network = get_space("lighthubert-base").network
    assert ffn_segments(network, 640, 2240) == [slice(0, 640), slice(768, 1408), slice(1536, 2176), slice(2304, 2624)]
    assert ffn_segments(network, 768, 2688) == [slice(0, 2688)]
    assert ffn_segments(network, 256, 768) == [slice(0, 256), slice(768, 1024), slice(1536, 1792)]


def test_weight_norm_has_one_norm_per_tap():
    g, v = torch.randn(1, 1, 3), torch.randn(4, 2, 3)
    plain = weight_normed(g, v)
    for tap in range(3):
        assert torch.allclose(plain[..., tap], g[0, 0, tap] * v[..., tap] / v[..., tap].square().sum().sqrt())
    conv = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(2, 4, 3), dim=2)
    with torch.no_grad():
        conv.parametrizations.weight.original0.copy_(g)
        conv.parametrizations.weight.original1.copy_(v)
    assert torch.allclose(conv.weight, plain)
