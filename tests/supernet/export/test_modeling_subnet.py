import torch
from transformers import HubertConfig

from supernet.export.modeling_subnet import SubnetHubertModel


def test_every_layer_has_its_own_size():
    config = HubertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=1, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        layer_heads=[3, 1], layer_ffn_dims=[24, 40], layer_head_dim=4,
    )  # fmt: skip
    model = SubnetHubertModel(config).eval()
    for layer, heads, ffn_dim in zip(model.encoder.layers, (3, 1), (24, 40), strict=True):
        attention, ffn = layer.attention, layer.feed_forward
        assert (attention.num_heads, attention.head_dim, attention.scaling) == (heads, 4, 0.5)
        shapes = [getattr(attention, f"{name}_proj").weight.shape for name in ("q", "k", "v", "out")]
        assert [tuple(shape) for shape in shapes] == [(4 * heads, 16)] * 3 + [(16, 4 * heads)]
        assert ffn.intermediate_dense.weight.shape == (ffn_dim, 16)
        assert ffn.output_dense.weight.shape == (16, ffn_dim)
    assert model(torch.randn(1, 4_000)).last_hidden_state.shape[2] == 16
