import json

import pytest

from search_spaces import SpaceError, Subnet

RELEASED = {
    "atten_dim": [384] * 12, "embed_dim": 384, "ffn_embed": [1536] * 12, "heads_num": [6] * 12, "layer_num": 12,
    "slide_wsz": ["global"] * 12,
}  # fmt: skip


def test_reads_and_writes_lighthuberts_dict():
    subnet = Subnet.from_lighthubert(RELEASED)
    assert subnet == Subnet(384, (6,) * 12, (4.0,) * 12)
    assert subnet.to_lighthubert() == RELEASED


@pytest.mark.parametrize("embed_dim", [256, 384, 512, 640, 768, 100])
@pytest.mark.parametrize("ratio", [1.5, 2.5, 3.0, 3.5, 4.0, 3.3])
def test_ffn_ratios_survive_lighthuberts_dict(embed_dim, ratio):
    subnet = Subnet(embed_dim, (4,), (ratio,))
    again = Subnet.from_lighthubert(subnet.to_lighthubert())
    assert again.ffn_dims == subnet.ffn_dims
    assert ratio == 3.3 or again == subnet


def test_entries_beyond_the_depth_do_not_exist():
    longer = {**RELEASED, "layer_num": 10}
    assert Subnet.from_lighthubert(longer).depth == 10
    shorter = {key: value[:10] if isinstance(value, list) else value for key, value in longer.items()}
    assert Subnet.from_lighthubert(longer).id == Subnet.from_lighthubert(shorter).id


def test_one_architecture_has_one_spelling():
    a, b = Subnet(384, (6, 6), (4, 3.5)), Subnet.from_json('{"ffn_ratios":[4.0,3.5],"heads":[6.0,6],"embed_dim":384}')
    assert a == b
    assert a.id == b.id
    assert a.to_json() == b.to_json() == '{"embed_dim":384,"heads":[6,6],"ffn_ratios":[4.0,3.5]}'


def test_json_of_a_run_and_of_lighthubert_are_read():
    subnet = Subnet(384, (6,) * 12, (4.0,) * 12)
    assert Subnet.from_json(json.dumps(RELEASED)) == subnet
    assert Subnet.from_json(json.dumps({"subnet": subnet.to_dict(), "score": 0.5})) == subnet


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ("[1]", "must be an object"),
        ('{"embed_dim":384}', "missing heads, ffn_ratios"),
        ('{"embed_dim":384,"heads":[6],"ffn_ratios":[4],"wheels":4}', "unknown wheels"),
        ('{"embed_dim":384,"heads":[6],"ffn_ratios":[4,4]}', "one entry for each kept layer"),
        ('{"embed_dim":384,"heads":[],"ffn_ratios":[]}', "one entry for each kept layer"),
        ('{"embed_dim":384.5,"heads":[6],"ffn_ratios":[4]}', "embed_dim must be a positive whole number"),
        ('{"embed_dim":true,"heads":[6],"ffn_ratios":[4]}', "embed_dim must be a positive whole number"),
        ('{"embed_dim":384,"heads":["6"],"ffn_ratios":[4]}', r"heads\[0\] must be a whole number, 0 or more"),
        ('{"embed_dim":384,"heads":6,"ffn_ratios":[4]}', "heads must be a list"),
        ('{"embed_dim":384,"heads":[6],"ffn_ratios":[NaN]}', r"ffn_ratios\[0\] must be a number, 0 or more"),
        ('{"embed_dim":384,"heads":[6],"ffn_ratios":[-1]}', r"ffn_ratios\[0\] must be a number, 0 or more"),
    ],
)
def test_bad_json_is_refused_with_one_line(text, said):
    with pytest.raises(SpaceError, match=said) as caught:
        Subnet.from_json(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slide_wsz": ["global"] * 11 + [16]}, "local attention windows are not supported"),
        ({"atten_dim": [512] * 12}, r"atten_dim\[0\]=512 must be 64 \* heads_num"),
        ({"heads_num": [6] * 3}, "one entry for each of layer_num=12"),
        ({"layer_num": 0}, "layer_num must be a positive whole number"),
    ],
)
def test_bad_lighthubert_dicts_are_refused(change, said):
    with pytest.raises(SpaceError, match=said):
        Subnet.from_lighthubert({**RELEASED, **change})
