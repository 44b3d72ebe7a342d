"""Equal to other people's implementations: s3prl's vendored LightHuBERT, and transformers' HubertModel."""

import warnings

import numpy as np
import pytest
import torch

from evaluators.costs import params
from search_spaces import get_space
from supernet import extract_subnet, load_supernet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from s3prl.upstream.lighthubert.lighthubert import LightHuBERT, LightHuBERTConfig

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
MAX_DIFFERENCE = 1e-5
SAMPLES = 8_000


def randomise(module, seed):
    """Every parameter random, including norms and biases: initialised to 1 and 0, they would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            scale = 0.5 if "norm" in name or name.endswith(("bias", "weight_g")) else 0.03
            centre = 1.0 if ("norm" in name and name.endswith("weight")) or name.endswith("weight_g") else 0.0
            value.copy_(centre + scale * torch.randn(value.shape, generator=generator) * (0.2 if centre else 1))
    return module.eval()


def speechlike(lengths):
    generator = torch.Generator().manual_seed(7)
    wav = torch.randn(len(lengths), max(lengths), generator=generator)
    return wav * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


@pytest.fixture(scope="module", params=["base", "small"])
def lighthubert(request, tmp_path_factory):
    """(space name, s3prl's model with random weights, the same read from its checkpoint by us)."""
    config = LightHuBERTConfig()
    config.supernet_type, config.extractor_mode = request.param, "default"
    reference = randomise(LightHuBERT(config), seed=1)
    state = {
        **reference.state_dict(),
        "label_embs_concat": torch.zeros(4, 256),
        "final_proj.weight": torch.zeros(2, 768),
    }
    cfg = {
        "model": {
            "_name": "hubert_pruner",
            "pruner_supernet": f"configs/{request.param}.yaml",
            "extractor_mode": "default",
        }
    }
    file = tmp_path_factory.mktemp("lighthubert") / "lighthubert.pt"
    torch.save({"cfg": cfg, "model": state}, file)
    return f"lighthubert-{request.param}", reference, load_supernet(file)


def subnets_of(name, n):
    space, rng = get_space(name), np.random.default_rng(2)
    return [space.smallest, space.largest, *(space.sample(rng) for _ in range(n - 2))]


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(SAMPLES, SAMPLES), (SAMPLES, 6_123)], ids=["unpadded", "padded"])
def test_every_hidden_state_equals_lighthuberts(lighthubert, lengths):
    name, reference, model = lighthubert
    worst: list[float] = []
    wav, sizes = speechlike(lengths), torch.tensor(lengths)
    padding = torch.arange(SAMPLES) >= sizes[:, None] if len(set(lengths)) > 1 else None
    for subnet in subnets_of(name, 20):
        reference.set_sample_config(subnet.to_lighthubert())
        theirs, their_padding = reference.extract_features(wav, padding_mask=padding, ret_hs=True)
        with model.active(subnet):
            ours = model.extract_features(wav, sizes)
        assert len(ours.hidden_states) == len(theirs) == subnet.depth + 1
        valid = torch.ones(theirs[0].shape[:2], dtype=torch.bool) if padding is None else ~their_padding
        assert padding is None or torch.equal(ours.mask, valid)
        pairs = zip(ours.hidden_states, theirs, strict=True)
        worst.append(max(((a - b)[valid].abs().max() / b[valid].abs().max()).item() for a, b in pairs))
        assert worst[-1] < MAX_DIFFERENCE, subnet
    print(f"largest relative difference: {max(worst):.1e}")


def test_params_equal_lighthuberts_count(lighthubert):
    name, reference, model = lighthubert
    for subnet in subnets_of(name, 10):
        reference.set_sample_config(subnet.to_lighthubert())
        counted = reference.calc_sampled_param_num()
        assert params(model).of(subnet) == counted
        own = sum(value.numel() for value in extract_subnet(model, subnet).parameters())
        assert own + 768 == counted  # LightHuBERT counts the mask embedding, always whole


def test_heads_and_known_extra_keys_are_accounted_for(lighthubert):
    _, reference, model = lighthubert
    assert model.head_layers == (12,)
    assert torch.equal(model.heads[0].weight, reference.state_dict()["layer_pred_heads.11.weight"])
    assert model.provenance["ignored_keys"] == ["final_proj.weight", "label_embs_concat"]


def test_the_largest_prediction_equals_lighthuberts_head(lighthubert):
    _, reference, model = lighthubert
    subnet = model.space.smallest
    reference.set_sample_config(subnet.to_lighthubert())
    wav = speechlike((SAMPLES,))
    with torch.no_grad(), model.active(subnet):
        theirs = reference(wav, mask=False)["layer_heads"][11][0]
        ours = model.predict(model.extract_features(wav).hidden_states)[0]
    assert ((ours - theirs).abs().max() / theirs.abs().max()).item() < MAX_DIFFERENCE


@pytest.mark.parametrize(
    ("settings", "source"),
    [({"_name": "student_hubert"}, "LightHuBERT stage 1"), ({"_name": "hubert", "layer_norm_first": False}, "fairseq")],
)
def test_stage_1_and_plain_fairseq_checkpoints_are_read_without_heads(lighthubert, tmp_path, settings, source):
    _, reference, _ = lighthubert
    state = {name: value for name, value in reference.state_dict().items() if not name.startswith("layer_pred_heads")}
    torch.save({"args": None, "cfg": {"model": settings}, "model": state}, tmp_path / "hubert.pt")
    model = load_supernet(tmp_path / "hubert.pt")
    assert model.space.name == "lighthubert-base"
    assert model.head_layers == ()
    assert model.provenance["source"].startswith(source)
    assert torch.equal(model.encoder.layers[11].fc1.weight, state["encoder.layers.11.fc1.weight"])


@pytest.fixture(scope="module", params=["base", "narrow"])
def hugging_face(request, tmp_path_factory):
    from transformers import HubertConfig, HubertModel

    narrow = {
        "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 100,
        "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 15, "num_conv_pos_embedding_groups": 3,
    }  # fmt: skip
    reference = randomise(HubertModel(HubertConfig(**(narrow if request.param == "narrow" else {}))), seed=3)
    folder = tmp_path_factory.mktemp("hugging_face")
    reference.save_pretrained(folder)
    return reference, load_supernet(folder)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(SAMPLES, SAMPLES), (SAMPLES, 6_123)], ids=["unpadded", "padded"])
def test_the_largest_subnet_equals_transformers_hubert(hugging_face, lengths):
    reference, model = hugging_face
    wav, sizes = speechlike(lengths), torch.tensor(lengths)
    attention = (torch.arange(SAMPLES) < sizes[:, None]).long()
    theirs = reference(wav, attention_mask=attention, output_hidden_states=True).hidden_states
    for net in (model, extract_subnet(model, model.space.largest)):
        ours = net(wav, sizes)
        valid = torch.ones(theirs[0].shape[:2], dtype=torch.bool) if ours.mask is None else ours.mask
        pairs = zip(ours.hidden_states[1:], theirs[1:], strict=True)
        worst = max(((a - b)[valid].abs().max() / b[valid].abs().max()).item() for a, b in pairs)
        print(f"largest relative difference: {worst:.1e}")
        assert worst < MAX_DIFFERENCE


def test_hubert_base_becomes_a_searchable_space(hugging_face):
    reference, model = hugging_face
    expected = "lighthubert-base" if reference.config.hidden_size == 768 else "hubert-48"
    assert model.space.name == expected
