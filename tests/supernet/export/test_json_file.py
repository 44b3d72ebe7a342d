"""The architecture alone."""

import json

import pytest

from search_spaces import CheckFailed, Subnet
from supernet.export.json_file import JsonExporter


def test_both_files_hold_the_subnet(supernet, small_space, tmp_path):
    subnet = small_space.middle
    JsonExporter().write(supernet, subnet, tmp_path, {}, "fp32")
    JsonExporter().check(supernet, subnet, tmp_path, "fp32")
    assert Subnet.from_json((tmp_path / "subnet.json").read_text()) == subnet
    foreign = json.loads((tmp_path / "lighthubert.json").read_text())
    assert foreign["heads_num"] == list(subnet.heads)
    assert foreign["ffn_embed"] == list(subnet.ffn_dims)
    assert foreign["layer_num"] == subnet.depth


def test_another_subnet_fails_the_check(supernet, small_space, tmp_path):
    JsonExporter().write(supernet, small_space.middle, tmp_path, {}, "fp32")
    with pytest.raises(CheckFailed, match="the JSON read back is not subnet"):
        JsonExporter().check(supernet, small_space.largest, tmp_path, "fp32")
