"""Loaded by LightHuBERT's own code, in the copy that s3prl brings."""

import json
import warnings

import numpy as np
import pytest
import torch

from search_spaces import NasError, get_space
from supernet import HubertSupernet
from supernet.export import export_subnet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from s3prl.upstream.lighthubert.expert import UpstreamExpert
    from s3prl.upstream.lighthubert.lighthubert import LightHuBERT, LightHuBERTConfig

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


@pytest.mark.slow
@torch.no_grad()
def test_lighthuberts_own_code_loads_the_checkpoint_and_the_subnet(tmp_path):
    torch.manual_seed(0)
    provenance = {"source": "LightHuBERT small"}
    model = HubertSupernet(get_space("lighthubert-small"), (12,), 768, "fairseq", provenance).eval()
    for value in model.parameters():
        value.add_(0.02 * torch.randn_like(value))
    subnet = model.space.sample(np.random.default_rng(3))
    export_subnet(model, subnet, tmp_path / "out", ["lighthubert"], {})
    checkpoint = torch.load(tmp_path / "out" / "lighthubert.pt", weights_only=True)
    config = LightHuBERTConfig(checkpoint["cfg"]["model"])
    config.supernet_type = "small"
    theirs = LightHuBERT(config)
    left = theirs.load_state_dict(checkpoint["model"], strict=False)
    assert (left.missing_keys, left.unexpected_keys) == ([], [])
    theirs.eval().set_sample_config(json.loads((tmp_path / "out" / "lighthubert.json").read_text()))
    wav = torch.randn(1, 8_000)
    with model.active(subnet):
        ours = model(wav).hidden_states
    for a, b in zip(ours, theirs.extract_features(wav, ret_hs=True)[0], strict=True):
        assert ((a - b).abs().max() / b.abs().max()) < 1e-5
    expert = UpstreamExpert(str(tmp_path / "out" / "lighthubert.pt"))  # s3prl's, with its built-in subnet
    assert len(expert.eval()([wav[0]])["hidden_states"]) == 13


def test_supernets_from_elsewhere_are_refused(supernet, small_space, tmp_path):
    with pytest.raises(NasError, match="for supernets that came from LightHuBERT's checkpoints"):
        export_subnet(supernet, small_space.middle, tmp_path / "out", ["lighthubert"], {})
    assert not list(tmp_path.iterdir())


def test_a_supernet_with_means_cannot_be_sliced_by_lighthuberts_code(model, tmp_path):
    model.provenance = {"source": "LightHuBERT small"}
    model.add_compensation("regression")
    with pytest.raises(NasError, match="this one keeps the regression of what is dropped"):
        export_subnet(model, model.space.smallest, tmp_path / "out", ["lighthubert"], {})
    assert not (tmp_path / "out").exists()
