import torch

from supernet.export import export_subnet
from supernet.export.torch_export import attention_mask


def test_the_mask_is_1_for_speech_and_0_for_padding():
    wav = torch.zeros(2, 4)
    assert attention_mask(wav, None).tolist() == [[1] * 4] * 2
    mask = attention_mask(wav, torch.tensor([4, 1]))
    assert (mask.tolist(), mask.dtype) == ([[1, 1, 1, 1], [1, 0, 0, 0]], torch.int64)


@torch.no_grad()
def test_any_batch_and_length_runs_as_the_slice_does(supernet, small_space, tmp_path):
    export_subnet(supernet, small_space.middle, tmp_path / "out", ["torch-export"], {})
    net = torch.export.load(tmp_path / "out" / "model.pt2").module()
    for batch, samples in ((1, 1_000), (3, 20_000)):
        wav = torch.randn(batch, samples, generator=torch.Generator().manual_seed(batch))
        lengths = torch.linspace(samples, samples / 2, batch).long()
        last, hidden = net(wav, attention_mask(wav, lengths))
        with supernet.active(small_space.middle):
            ours = torch.stack(supernet(wav, lengths).hidden_states)
        assert torch.equal(last, hidden[-1])
        torch.testing.assert_close(hidden, ours, rtol=0, atol=1e-4)
