"""The code that a Hugging Face export brings along."""

from transformers import HubertConfig

from supernet.export.modeling_subnet import SubnetHubertModel


def test_layers_have_the_sizes_of_the_config():
    config = HubertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4, conv_dim=[16] * 7,
    )  # fmt: skip
    config.layer_heads, config.layer_ffn_dims, config.layer_head_dim = [1, 3], [40, 24], 16
    layers = SubnetHubertModel(config).encoder.layers
    assert [layer.attention.q_proj.out_features for layer in layers] == [16, 48]
    assert [layer.attention.out_proj.in_features for layer in layers] == [16, 48]
    assert [layer.feed_forward.intermediate_dense.out_features for layer in layers] == [40, 24]
    assert [layer.attention.scaling for layer in layers] == [16**-0.5] * 2
