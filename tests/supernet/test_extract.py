"""Extracted subnets: equal to the active slice, on their own, and on disk."""

import json

import numpy as np
import pytest
import torch

from search_spaces import CheckpointError
from supernet import extract_subnet, load_extracted, save_extracted

WAV = torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([8_000, 5_000])


@torch.no_grad()
def test_extracted_subnets_equal_the_active_slice_and_survive_the_disk(model, small_space, tmp_path):
    rng = np.random.default_rng(0)
    for i, subnet in enumerate(
        [small_space.smallest, small_space.largest, *(small_space.sample(rng) for _ in range(6))]
    ):
        with model.active(subnet):
            ours = [model(WAV), model(WAV, LENGTHS)]
        net = extract_subnet(model, subnet)
        again = load_extracted(save_extracted(net, tmp_path / str(i)))
        for candidate in (net, again):
            for a, b in zip(ours, [candidate(WAV), candidate.extract_features(WAV, LENGTHS)], strict=True):
                assert all(
                    torch.allclose(x, y, rtol=0, atol=1e-6)
                    for x, y in zip(a.hidden_states, b.hidden_states, strict=True)
                )


@torch.no_grad()
def test_extraction_shares_no_memory_with_the_supernet(model, small_space):
    net = extract_subnet(model, small_space.smallest)
    before = net(WAV).last_hidden_state
    for value in model.parameters():
        value.zero_()
    assert torch.equal(net(WAV).last_hidden_state, before)


def test_broken_folders_are_refused(model, small_space, tmp_path):
    folder = save_extracted(model.extract(small_space.middle), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"subnet": {}}, "does not describe a subnet"),
        ({"frame_rule": "none"}, "frame_rule of"),
        ({"subnet": small_space.smallest.to_dict()}, "unexpected weights"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(CheckpointError, match=message):
            load_extracted(folder)
