"""A traced graph of any batch and length."""

import pytest
import torch

from supernet.export import get_exporter
from supernet.export.torch_export import attention_mask

pytestmark = pytest.mark.slow


def test_the_graph_is_the_subnet_at_any_length(supernet, small_space, tmp_path):
    exporter, subnet = get_exporter("torch-export"), small_space.middle
    exporter.write(supernet, subnet, tmp_path, {}, "fp32")
    exporter.check(supernet, subnet, tmp_path, "fp32")
    net, run = supernet.extract(subnet), exporter.read(tmp_path, "fp32")
    for samples in (9_000, 31_000):
        wav = torch.randn(3, samples, generator=torch.Generator().manual_seed(samples))
        with torch.no_grad():
            for a, b in zip(net(wav).hidden_states, run(wav, None), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_masks_are_one_where_speech_is():
    wav = torch.zeros(2, 4)
    assert attention_mask(wav, torch.tensor([4, 2])).tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert attention_mask(wav, None).tolist() == [[1] * 4] * 2
