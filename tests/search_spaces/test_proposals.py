import pytest

from search_spaces import SpaceError, get_space
from search_spaces.proposals import PROPOSALS, evenly, proposed_space

NETWORK = get_space("lighthubert-base").network


def test_the_spaces_that_are_proposed():
    coarse, fine, uniform = (proposed_space(NETWORK, kind) for kind in PROPOSALS)
    assert coarse.heads[0] == (3, 6, 9, 12)
    assert coarse.ffn_ratios[0] == (1.0, 2.0, 3.0, 4.0)
    assert coarse.size == 16**12
    assert fine.heads[0] == tuple(range(13))
    assert fine.ffn_ratios[0] == (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
    assert fine.size == (13 * 9) ** 12
    assert uniform.heads[0] == (12,)
    assert uniform.depths == tuple(range(6, 13))
    for space in (coarse, fine, uniform):
        assert space.largest.embed_dim == NETWORK.width
        assert space.largest.ffn_dims == (NETWORK.ffn_dim,) * NETWORK.num_layers
    with pytest.raises(SpaceError, match="unknown kind of space 'huge'; known: coarse, fine, uniform"):
        proposed_space(NETWORK, "huge")


@pytest.mark.parametrize("layers", [1, 2, 6, 12, 24])
def test_layers_are_taken_away_evenly(layers):
    for depth in range(1, layers + 1):
        kept = evenly(layers, depth)
        assert len(kept) == depth
        assert list(kept) == sorted(set(kept))
        assert kept[-1] == layers - 1
