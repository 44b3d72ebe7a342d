import subprocess
import sys

import numpy as np
import pytest

from search_spaces import SPACES, SpaceError, Subnet, get_space


@pytest.fixture(params=SPACES)
def space(request):
    return get_space(request.param)


def test_drawn_mutated_and_crossed_subnets_are_of_the_space_and_round_trip(space):
    rng = np.random.default_rng(0)
    for _ in range(100):
        a, b = space.sample(rng), space.sample(rng)
        for subnet in (a, space.mutate(a, rng, 0.5), space.crossover(a, b, rng)):
            assert subnet in space
            assert space.decode(space.encode(subnet)) == subnet
            assert Subnet.from_json(subnet.to_json()) == subnet


def test_crossover_takes_every_choice_from_a_parent(space):
    rng = np.random.default_rng(1)
    a, b = space.sample(rng), space.sample(rng)
    child = space.crossover(a, b, rng)
    parents = [space.layers_of(a), space.layers_of(b)]
    for layer, (heads, ratio) in space.layers_of(child).items():
        assert heads in {p[layer][0] for p in parents if layer in p}
        assert ratio in {p[layer][1] for p in parents if layer in p}


def test_few_subnets_cover_every_choice(space):
    subnets = list(space.covering())
    assert all(subnet in space for subnet in subnets)
    seen = {
        (layer, i, value)
        for each in subnets
        for layer, own in space.layers_of(each).items()
        for i, value in enumerate(own)
    }
    for layer in range(space.network.num_layers):
        assert {value for at, i, value in seen if (at, i) == (layer, 0)} == set(space.heads[layer])
        assert {value for at, i, value in seen if (at, i) == (layer, 1)} == set(space.ffn_ratios[layer])
    assert {each.embed_dim for each in subnets} == set(space.embed_dims)
    assert {each.front_end for each in subnets} == set(space.front_ends)
    assert {each.depth for each in subnets} == set(space.depths)


def test_depths_drop_the_layers_lighthubert_drops():
    space = get_space("lighthubert-small")
    assert set(range(12)) - set(space.kept_layers(11)) == {11}
    assert set(range(12)) - set(space.kept_layers(10)) == {7, 11}


def test_a_space_survives_its_own_description(space):
    from search_spaces import space_from_dict

    assert space_from_dict(space.to_dict()) == space


def test_what_is_not_allowed_is_named_with_what_is():
    space = get_space("lighthubert-small")
    with pytest.raises(SpaceError, match=r"heads\[3\]=7 is not in space 'lighthubert-small'; allowed: 4, 6, 8"):
        space.check(Subnet(256, (4, 4, 4, 7, 4, 4, 4, 4, 4, 4), (3.0,) * 10))
    with pytest.raises(SpaceError, match="depth=9 is not in space"):
        space.check(Subnet(256, (4,) * 9, (3.0,) * 9))


@pytest.mark.parametrize("room", ["search_spaces", "nas", "evaluators.costs", "evaluators.scores"])
def test_importing_does_not_import_torch(room):
    code = f"import sys, {room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
