import json

import pytest
import torch
from safetensors.torch import load_file

from supernet import load_extracted
from supernet.export import export_subnet, get_exporter


@pytest.mark.parametrize(("dtype", "stored"), [("fp32", torch.float32), ("fp16", torch.float16)])
def test_weights_are_stored_in_the_dtype_and_rounded_once(supernet, small_space, tmp_path, dtype, stored):
    export_subnet(supernet, small_space.middle, tmp_path / "out", ["safetensors"], {"command": "x"}, dtype)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    own = supernet.extract(small_space.middle).state_dict()
    assert weights.keys() == own.keys()
    for name, value in weights.items():
        assert value.dtype == stored
        assert torch.equal(value, own[name].to(stored)), name
    assert json.loads((tmp_path / "out" / "config.json").read_text())["about"] == {"command": "x"}


@torch.no_grad()
def test_what_is_read_back_runs_from_waveforms_and_from_features(supernet, small_space, tmp_path):
    export_subnet(supernet, small_space.middle, tmp_path / "out", ["safetensors"], {})
    run, net = get_exporter("safetensors").read(tmp_path / "out", "fp32"), load_extracted(tmp_path / "out")
    wav = torch.randn(1, 8_000, generator=torch.Generator().manual_seed(0))
    expected = net(wav).hidden_states
    for states in (run(wav), run.encode(net.front_end(wav), 8_000)):
        assert all(torch.equal(a, b) for a, b in zip(states, expected, strict=True))
