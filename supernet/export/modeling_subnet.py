"""The code in a Hugging Face export: a HubertModel whose layers differ in size. The file is copied unchanged."""

from typing import Any

from torch import nn
from transformers import HubertModel

__all__ = ["SubnetHubertModel"]


class SubnetHubertModel(HubertModel):  # type: ignore[misc]
    """`config.layer_heads` and `config.layer_ffn_dims` have a number per layer; a head has `config.layer_head_dim`."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        D, head_dim = config.hidden_size, config.layer_head_dim
        for layer, heads, ffn_dim in zip(self.encoder.layers, config.layer_heads, config.layer_ffn_dims):
            attention, ffn = layer.attention, layer.feed_forward
            for name in ("q_proj", "k_proj", "v_proj"):
                setattr(attention, name, nn.Linear(D, heads * head_dim))
            attention.out_proj = nn.Linear(heads * head_dim, D)
            attention.num_heads, attention.head_dim, attention.scaling = heads, head_dim, head_dim**-0.5
            ffn.intermediate_dense, ffn.output_dense = nn.Linear(D, ffn_dim), nn.Linear(ffn_dim, D)
        self.post_init()
