import pytest
import torch

from supernet.export import export_subnet
from supernet.export.s3prl_expert import UpstreamExpert


@pytest.fixture(scope="module")
def checkpoint(supernet, small_space, tmp_path_factory):
    out = tmp_path_factory.mktemp("s3prl") / "out"
    export_subnet(supernet, small_space.middle, out, ["s3prl"], {})
    return str(out / "s3prl" / "subnet.pt")


@torch.no_grad()
def test_waveforms_of_any_length_are_normalised_and_padded(checkpoint, supernet, small_space):
    waves = [torch.randn(size, generator=torch.Generator().manual_seed(size)) + 0.5 for size in (9_000, 6_000)]
    result = UpstreamExpert(checkpoint).eval()(waves)
    normal = [(wave - wave.mean()) / (wave.var(correction=0) + 1e-5).sqrt() for wave in waves]
    padded = torch.nn.utils.rnn.pad_sequence(normal, batch_first=True)
    with supernet.active(small_space.middle):
        expected = supernet(padded, torch.tensor([9_000, 6_000])).hidden_states
    assert len(result["hidden_states"]) == small_space.middle.depth + 1
    for state, ours in zip(result["hidden_states"], expected, strict=True):
        torch.testing.assert_close(state, ours, rtol=0, atol=1e-4)
    assert torch.equal(result["last_hidden_state"], result["hidden_states"][-1])


def test_a_frame_has_320_samples_and_other_arguments_have_no_effect(checkpoint):
    assert UpstreamExpert(checkpoint, model_config="x", refresh=True).get_downsample_rates("hidden_states") == 320
