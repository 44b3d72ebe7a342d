"""Weights and config, read by `load_extracted`."""

import pytest
import torch

from search_spaces import CheckFailed
from supernet import load_extracted
from supernet.export import get_exporter


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_what_is_written_is_the_subnet(supernet, small_space, tmp_path, dtype):
    exporter, subnet = get_exporter("safetensors"), small_space.middle
    exporter.write(supernet, subnet, tmp_path, {"name": "x"}, dtype)
    exporter.check(supernet, subnet, tmp_path, dtype)
    net = load_extracted(tmp_path)
    assert net.subnet == subnet
    for name, value in supernet.extract(subnet).state_dict().items():
        expected = value if dtype == "fp32" else value.half().float()
        assert torch.equal(net.state_dict()[name], expected), name
    with pytest.raises((CheckFailed, ValueError)):
        exporter.check(supernet, small_space.largest, tmp_path, dtype)
