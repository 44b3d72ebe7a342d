"""Ordering by importance moves important heads and units to the front, and does not change the whole network."""

import pytest
import torch

from search_spaces import NasError, SpaceError, get_space, space_from_dict
from supernet import load_supernet, save_supernet
from supernet.order import convert, order_by_importance
from tests.supernet.conftest import SPACE, random_supernet

WAV = torch.randn(2, 6_000, generator=torch.Generator().manual_seed(1))


def outputs(model, subnet):
    with model.active(subnet), torch.no_grad():
        return model(WAV, torch.tensor([6_000, 4_000])).hidden_states


@pytest.mark.parametrize("with_speech", [False, True])
def test_outputs_of_the_largest_subnet_stay_and_those_of_the_smallest_change(model, with_speech):
    space = model.space
    before, small = outputs(model, space.largest), outputs(model, space.smallest)
    order_by_importance(model, list(WAV) if with_speech else [])
    for a, b in zip(before, outputs(model, space.largest), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert not torch.allclose(small[-1], outputs(model, space.smallest)[-1], atol=1e-3)
    assert model.provenance["ordered_by"] == ("Gauss-Newton" if with_speech else "magnitude")
    assert model.compensation == ("regression" if with_speech else "none")


def test_the_smallest_ffn_keeps_the_most_important_units(model):
    """Stored in blocks of 32: at D = 16, ratio 1.5 keeps 16 units of the first block and 8 of the second."""
    layer = model.encoder.layers[3]
    units = (layer.fc1.weight.norm(dim=1) * layer.fc2.weight.norm(dim=0)).detach()
    order_by_importance(model)
    moved = (layer.fc1.weight.norm(dim=1) * layer.fc2.weight.norm(dim=0)).detach()
    kept = torch.cat([moved[:16], moved[32:40]])
    assert torch.allclose(kept.sort().values, units.sort().values[-24:])
    assert torch.allclose(moved.sort().values, units.sort().values)


def test_heads_are_sorted_by_importance(model):
    order_by_importance(model)
    for layer in model.encoder.layers:
        of_dim = (layer.v.weight.norm(dim=1) * layer.out.weight.norm(dim=0)).square()
        first, second = of_dim.view(2, 16).sum(1).tolist()
        assert first >= second


def test_units_that_are_inactive_on_the_speech_come_last(model):
    layer = model.encoder.layers[0]
    with torch.no_grad():
        layer.fc1.weight[:20] = 0
        layer.fc1.bias[:20] = -50  # GELU gives 0
        layer.fc2.weight[:, :20] *= 100
    silent = set(layer.fc1.bias.detach().unique().tolist()) & {-50.0}
    order_by_importance(model, list(WAV))
    kept = [*layer.fc1.bias[:16].tolist(), *layer.fc1.bias[32:40].tolist()]
    assert silent == {-50.0}
    assert -50.0 not in kept


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
def test_a_hugging_face_model_becomes_the_largest_subnet(kind, tmp_path, corpus):
    import transformers

    config = {
        "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
        "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    name = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2"}[kind]
    theirs = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**config)).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = convert(str(tmp_path / "theirs"), tmp_path / "ours", audio=corpus)
    with torch.no_grad():
        expected = theirs(WAV, output_hidden_states=True).hidden_states
    for a, b in zip(ours(WAV).hidden_states[1:], expected[1:], strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert load_supernet(tmp_path / "ours").provenance["ordered_by"] == "Gauss-Newton"


def test_a_space_without_the_whole_network_is_refused(model, tmp_path, small_space):
    from search_spaces import space_from_dict

    folder = save_supernet(model, tmp_path / "a")
    part = space_from_dict({**small_space.to_dict(), "name": "part", "embed_dims": [16]})
    with pytest.raises(SpaceError, match="'part' lacks the whole network"):
        convert(str(folder), tmp_path / "b", space=part)
    assert not (tmp_path / "b").exists()
    assert get_space("hubert-tiny").largest.ffn_dims[0] == get_space("hubert-tiny").network.ffn_dim


@pytest.mark.parametrize("compensation", ["none", "mean"])
def test_trained_subnets_keep_their_heads_and_units_and_channels_are_sorted(corpus, tmp_path, compensation):
    model = random_supernet(space_from_dict({**SPACE, "front_ends": [8, 16]}))
    model.add_compensation(compensation)
    model.provenance["recipes"] = [{"stage": 1}, {"stage": 2}]
    save_supernet(model, tmp_path / "trained")
    after = convert(str(tmp_path / "trained"), tmp_path / "sorted", audio=corpus)
    assert after.compensation == compensation
    assert torch.equal(after.encoder.layers[0].fc1.weight, model.encoder.layers[0].fc1.weight)
    assert not torch.equal(after.front_end.convs[0].weight, model.front_end.convs[0].weight)
    with pytest.raises(NasError, match=r"--compensation has no effect on .*trained: its subnets were trained"):
        convert(str(tmp_path / "trained"), tmp_path / "again", audio=corpus, compensation="mean")
