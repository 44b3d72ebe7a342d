"""The upstream that an s3prl export brings along."""

import torch

from supernet.export import export_subnet
from supernet.export.s3prl_expert import UpstreamExpert


def test_waveforms_in_and_hidden_states_out(supernet, small_space, tmp_path):
    export_subnet(supernet, small_space.middle, tmp_path / "out", ["s3prl"], {})
    (file,) = (tmp_path / "out").rglob("subnet.pt")
    expert = UpstreamExpert(str(file), feature_selection="ignored").eval()
    assert expert.get_downsample_rates("hidden_states") == small_space.network.hop
    waves = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (16_000, 9_000)]
    with torch.no_grad():
        out = expert(waves)
        alone = supernet.extract(small_space.middle)(torch.nn.functional.layer_norm(waves[0], waves[0].shape)[None])
    assert len(out["hidden_states"]) == small_space.middle.depth + 1
    assert out["last_hidden_state"] is out["hidden_states"][-1]
    assert torch.isfinite(out["last_hidden_state"]).all()
    assert out["last_hidden_state"].shape[1] == alone.hidden_states[-1].shape[1]
