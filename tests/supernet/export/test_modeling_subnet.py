import torch

from supernet.export.hugging_face import described
from supernet.export.modeling_subnet import SubnetConfig, SubnetModel


def test_every_layer_has_its_own_size(supernet):
    subnet = supernet.space.smallest
    model = SubnetModel(SubnetConfig(**described(supernet, subnet))).eval()
    assert [layer.heads for layer in model.net.encoder.layers] == list(subnet.heads)
    wav, mask = torch.randn(2, 4_000), torch.ones(2, 4_000, dtype=torch.long)
    mask[1, 3_000:] = 0
    output = model(wav, attention_mask=mask, output_hidden_states=True)
    assert output.last_hidden_state.shape[2] == subnet.embed_dim
    assert len(output.hidden_states) == subnet.depth + 1
    assert len(model(wav, return_dict=False)) == 1
