"""Named spaces, and spaces from TOML files."""

import pytest

from search_spaces import SPACES, SpaceError, as_space, get_space
from search_spaces.hubert import to_toml

PUBLISHED_SIZES = {"lighthubert-base": 6_530_347_008, "lighthubert-small": 951_892_141_473}


TOML = """
base = "hubert-tiny"
embed_dims = [128, 192]
heads = [[2, 6], [2, 6], [6], [6], [6], [6], [6], [6], [6], [6], [6], [6]]
ffn_ratios = [3.5]
depths = [12]
front_ends = [96]
"""


@pytest.fixture(params=SPACES)
def space(request):
    return get_space(request.param)


@pytest.mark.parametrize(("name", "size"), PUBLISHED_SIZES.items())
def test_sizes_are_as_published(name, size):
    assert get_space(name).size == size


def test_hubert_tiny_has_over_a_billion_subnets():
    assert get_space("hubert-tiny").size > 10**9


def test_a_toml_file_makes_a_sub_space(tmp_path):
    (tmp_path / "part.toml").write_text(TOML)
    space = get_space(str(tmp_path / "part.toml"))
    assert space.name == "part"
    assert space.size == len(list(space)) == len(set(space)) == 2 * 2 * 2
    assert all(get_space("hubert-tiny").contains(subnet) for subnet in space)


def test_a_toml_file_can_describe_a_network_of_its_own(tmp_path):
    text = """
    embed_dims = [32, 64]
    heads = [1, 2]
    ffn_ratios = [1.0, 2.0]
    [depth_map]
    2 = [1, 3]
    3 = [1, 2, 3]
    [network]
    conv_layers = [[16, 10, 5], [16, 8, 4]]
    width = 64
    heads = 2
    ffn_dim = 128
    num_layers = 3
    head_dim = 16
    """
    (tmp_path / "own.toml").write_text(text)
    space = get_space(str(tmp_path / "own.toml"))
    assert space.size == 2 * (4**2 + 4**3)
    assert space.kept_layers(2) == (0, 2)
    assert space.network.hop == 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("embed_dims = [", "is not a TOML file"),
        ("wheels = 4", "unknown key wheels"),
        ("base = 'nothing'", "base of space 'bad' must be one of"),
        ("embed_dims = [128]", "has no heads"),
        ("base = 'hubert-tiny'\nembed_dims = [130]", "multiples of pos_conv_groups=16"),
        ("base = 'hubert-tiny'\nembed_dims = [256]", "up to width="),
        ("base = 'hubert-tiny'\nembed_dims = ['128']", "must be a list of whole numbers"),
        ("base = 'hubert-tiny'\nheads = [8]", "over the stored 6"),
        ("base = 'hubert-tiny'\nheads = [[2], [4]]", "one for each of 12 layers"),
        ("base = 'hubert-tiny'\nffn_ratios = [9.0]", "does not fit the stored ffn_dim"),
        ("base = 'hubert-tiny'\nffn_ratios = [2.0, 1.0]", "rising order"),
        ("base = 'hubert-tiny'\ndepths = [5]", "needs a row in depth_map"),
        ("base = 'hubert-tiny'\n[depth_map]\n2 = [1, 13]", "of 1..12"),
        ("base = 'hubert-tiny'\n[network]\nwidth = 0", r"must be a whole number in 1\.\."),
        ("base = 'hubert-tiny'\n[network]\ncolour = 1", "unknown key colour"),
    ],
)
def test_bad_toml_is_refused_with_one_line(tmp_path, text, said):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(SpaceError, match=said):
        get_space(str(tmp_path / "bad.toml"))


def test_unknown_spaces_name_the_known_ones(tmp_path):
    with pytest.raises(SpaceError, match="known: lighthubert-base, lighthubert-small, hubert-tiny"):
        get_space("nothing")
    with pytest.raises(SpaceError, match="cannot read space file"):
        get_space(str(tmp_path / "missing.toml"))


def test_a_space_is_known_by_itself_its_name_its_file_and_its_supernet(tmp_path):
    class Supernet:
        space = get_space("hubert-tiny")

    (tmp_path / "mine.toml").write_text(to_toml(Supernet.space))
    for source in (Supernet.space, Supernet(), "hubert-tiny"):
        assert as_space(source) == Supernet.space
    assert as_space(tmp_path / "mine.toml").embed_dims == Supernet.space.embed_dims
    with pytest.raises(
        SpaceError, match=r"space must be a Space, its name, a path to a \.toml file, or a supernet; got 3"
    ):
        as_space(3)
