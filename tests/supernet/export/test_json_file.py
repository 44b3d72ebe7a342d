import json
from dataclasses import replace

import pytest

from search_spaces import CheckFailed
from supernet import HubertSupernet
from supernet.export import export_subnet, get_exporter


def test_ratios_that_an_ffn_dim_cannot_tell_are_exported(small_space, tmp_path):
    """int(1.55 * 16) = 24 = int(1.5 * 16): LightHuBERT's dict holds 24, ours the ratio."""
    space = replace(small_space, ffn_ratios=((1.55, 2.0),) * 12)
    export_subnet(HubertSupernet(space).eval(), space.smallest, tmp_path / "out", ["json"], {})
    assert json.loads((tmp_path / "out" / "subnet.json").read_text())["ffn_ratios"] == [1.55] * 10
    assert json.loads((tmp_path / "out" / "lighthubert.json").read_text())["ffn_embed"] == [24] * 10


def test_both_files_describe_the_subnet(supernet, small_space, tmp_path):
    export_subnet(supernet, small_space.smallest, tmp_path / "out", ["json"], {})
    ours = json.loads((tmp_path / "out" / "subnet.json").read_text())
    assert (ours["embed_dim"], ours["heads"], ours["ffn_ratios"]) == (16, [1] * 10, [1.5] * 10)
    theirs = json.loads((tmp_path / "out" / "lighthubert.json").read_text())
    assert (theirs["heads_num"], theirs["ffn_embed"]) == ([1] * 10, [24] * 10)


@pytest.mark.parametrize("name", ["subnet.json", "lighthubert.json"])
def test_a_file_of_another_subnet_fails_the_check(supernet, small_space, tmp_path, name):
    for folder, subnet in (("out", small_space.smallest), ("other", small_space.largest)):
        export_subnet(supernet, subnet, tmp_path / folder, ["json"], {})
    (tmp_path / "other" / name).replace(tmp_path / "out" / name)
    with pytest.raises(CheckFailed, match="the JSON read back is not subnet"):
        get_exporter("json").check(supernet, small_space.smallest, tmp_path / "out", "fp32")
