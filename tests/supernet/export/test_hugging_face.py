import json
from dataclasses import replace

import pytest
import torch

from search_spaces import Subnet
from supernet import HubertSupernet
from supernet.export import export_subnet
from supernet.export.hugging_face import is_stock


@pytest.mark.filterwarnings("error")
def test_uniform_subnets_are_stock_models_without_code(supernet, small_space, tmp_path):
    from transformers import AutoModel, HubertModel

    subnet = small_space.largest
    assert is_stock(supernet, subnet)
    export_subnet(supernet, subnet, tmp_path / "out", ["hf"], {})
    assert not list((tmp_path / "out" / "hf").glob("*.py"))
    net = AutoModel.from_pretrained(tmp_path / "out" / "hf")
    assert type(net) is HubertModel
    embedding = supernet.mask_embedding[: subnet.embed_dim]
    assert torch.equal(net.masked_spec_embed, embedding)


def test_other_subnets_bring_one_file_of_code(supernet, small_space, tmp_path):
    from transformers import AutoModel

    subnet = Subnet(16, (2, 1) * 5, (1.5,) * 9 + (2.0,))
    export_subnet(supernet, subnet, tmp_path / "out", ["hf"], {})
    files = sorted(path.name for path in (tmp_path / "out" / "hf").iterdir())
    assert files == ["README.md", "config.json", "model.safetensors", "modeling_subnet.py", "preprocessor_config.json"]
    net = AutoModel.from_pretrained(tmp_path / "out" / "hf", trust_remote_code=True)
    assert type(net).__name__ == "SubnetModel"
    wav = torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), supernet.active(subnet):
        ours = supernet(wav).last_hidden_state
        theirs = net.eval()(wav).last_hidden_state
    assert ((ours - theirs).abs().max() / ours.abs().max()) < 1e-5
    net.train()(wav).last_hidden_state.square().mean().backward()  # it trains, in every part
    assert all(value.grad is not None for value in net.net.parameters())


@pytest.mark.parametrize(("heads", "ratios", "stock"), [((2,), (2.0,), True), ((1,), (2.0,), False)])
def test_stock_needs_heads_that_span_the_embed_dim(supernet, heads, ratios, stock):
    assert is_stock(supernet, Subnet(32, heads * 12, ratios * 12)) == stock


def test_convolutions_without_a_norm_bring_code(small_space, tmp_path):
    """Stock configs know a group norm and layer norms."""
    space = replace(small_space, network=replace(small_space.network, conv_norm="none", conv_bias=True))
    torch.manual_seed(0)
    model = HubertSupernet(space, (4, 12), 8).eval()
    for conv in model.front_end.convs:
        torch.nn.init.orthogonal_(conv.weight, 2.0)  # or seven convolutions leave nothing of a sound
    assert not is_stock(model, space.largest)
    export_subnet(model, space.largest, tmp_path / "out", ["hf", "s3prl"], {})
    assert (tmp_path / "out" / "hf" / "modeling_subnet.py").exists()


def test_padding_follows_hugging_faces_rule_whatever_the_supernets(small_space, supernet, tmp_path):
    """LightHuBERT counts one frame more: an export of such a supernet is compared by the rule that it keeps."""
    other = HubertSupernet(replace(small_space), (4, 12), 8, frame_rule="fairseq").eval()
    other.load_state_dict(supernet.state_dict())
    export_subnet(other, small_space.middle, tmp_path / "out", ["hf", "s3prl"], {})


def test_the_feature_extractor_normalises_each_utterance(supernet, small_space, tmp_path):
    export_subnet(supernet, small_space.largest, tmp_path / "out", ["hf"], {})
    settings = json.loads((tmp_path / "out" / "hf" / "preprocessor_config.json").read_text())
    assert (settings["do_normalize"], settings["return_attention_mask"], settings["sampling_rate"]) == (
        True,
        True,
        16_000,
    )
