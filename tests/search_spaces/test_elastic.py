"""Layers without a half and elastic front ends: spaces, vectors, tables and exact answers, against enumeration."""

from itertools import pairwise, product

import numpy as np
import pytest

from evaluators import costs
from search_spaces import AdditiveTable, ChainTable, Feasible, SpaceError, Subnet, space_from_dict

FIELDS = {
    "name": "elastic",
    "embed_dims": [32, 64],
    "heads": [0, 1, 2],
    "ffn_ratios": [0, 1.5, 2],
    "depth_map": {"2": [1, 2]},
    "front_ends": [8, [8, 16, 16], 16],
    "network": {
        "conv_layers": [[16, 10, 5], [16, 3, 2], [16, 3, 2]], "width": 64, "heads": 2, "ffn_dim": 128, "num_layers": 2,
        "head_dim": 32, "pos_conv_kernel": 8, "pos_conv_groups": 4,
    },
}  # fmt: skip
SPACE = space_from_dict(FIELDS)
ALL = list(SPACE)
rng = np.random.default_rng(0)


def random_table(space, pairs=False):
    shape = len(space.embed_dims), len(space.depths)
    layers = [rng.normal(size=(*shape, len(choices))) for choices in space.choices]
    if not pairs:
        return AdditiveTable(space, "random", "points", rng.normal(size=shape), tuple(layers))
    neighbours = {(a, b) for chain in space.chains for a, b in pairwise(chain)}
    of_pairs = {ab: rng.normal(size=[len(space.choices[i]) for i in ab]) for ab in neighbours}
    return ChainTable(space, "random", "points", rng.normal(size=shape), tuple(layers), of_pairs)


def test_the_space_is_the_product_of_its_choices():
    assert SPACE.size == len(ALL) == len(set(ALL)) == 2 * 3 * 9 * 9
    assert SPACE.front_ends == ((8, 8, 8), (8, 16, 16), ())
    assert SPACE.chains == ((2, 0, 1),)
    assert SPACE.largest == Subnet(64, (2, 2), (2.0, 2.0))
    assert SPACE.smallest == Subnet(32, (0, 0), (0.0, 0.0), (8, 8, 8))
    assert space_from_dict(SPACE.to_dict()) == SPACE
    for subnet in ALL:
        assert SPACE.decode(SPACE.encode(subnet)) == subnet
        assert Subnet.from_json(subnet.to_json()) == subnet


def test_a_subnet_with_the_whole_front_end_is_written_as_before():
    assert Subnet(64, (2,), (2.0,)).to_json() == '{"embed_dim":64,"heads":[2],"ffn_ratios":[2.0]}'
    assert '"front_end":[8,8,8]' in SPACE.smallest.to_json()
    with pytest.raises(SpaceError, match="LightHuBERT's dict cannot express"):
        SPACE.smallest.to_lighthubert()


def test_draws_mutations_and_crossovers_stay_in_the_space():
    draws = [SPACE.sample(rng) for _ in range(200)]
    assert {subnet.front_end for subnet in draws} == set(SPACE.front_ends)
    for a, b in pairwise(draws):
        SPACE.check(SPACE.mutate(a, rng, 0.5))
        SPACE.check(SPACE.crossover(a, b, rng))


@pytest.mark.parametrize("pairs", [False, True])
def test_exact_answers_are_those_of_enumeration(pairs):
    score, cost = random_table(SPACE, pairs), costs.params(SPACE).table
    values = {subnet: score.of(subnet) for subnet in ALL}
    limit = sorted(map(cost.of, ALL))[len(ALL) // 3]
    fits = [subnet for subnet in ALL if cost.of(subnet) <= limit]
    within = Feasible(SPACE, [(cost, limit)])
    assert within.count() == len(fits)
    assert within.best(score) == max(fits, key=values.__getitem__)
    assert list(within.ranked(score)) == sorted(fits, key=values.__getitem__, reverse=True)
    assert set(within.sample(rng, 4000)) == set(fits)
    front, best = [], -np.inf
    for subnet in sorted(fits, key=lambda s: (cost.of(s), -values[s])):
        if values[subnet] > best:
            front.append(subnet)
            best = values[subnet]
    assert [point.subnet for point in within.front(cost, score)] == front
    vectors = np.array([SPACE.encode(subnet) for subnet in ALL])
    assert np.allclose(score.of_vectors(vectors), list(values.values()))
    assert np.array_equal(within.keeps(vectors), [cost.of(subnet) <= limit for subnet in ALL])


def test_uniform_subnets_may_have_any_front_end():
    uniform = Feasible(SPACE, uniform=True)
    expected = {
        Subnet(D, (h, h), (r, r), f) for D, h, r, f in product((32, 64), (0, 1, 2), (0, 1.5, 2), SPACE.front_ends)
    }
    assert uniform.count() == len(expected)
    assert set(uniform.sample(rng, 2000)) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"front_ends": []}, "front_ends of space 'elastic' must be a list of channels"),
        ({"front_ends": [16, 8]}, "must be different, from the smallest to the largest"),
        ({"front_ends": [8, 8]}, "must be different"),
        ({"front_ends": [32]}, r"up to \[16, 16, 16\]; got \[32, 32, 32\]"),
        ({"front_ends": [[8, 8]]}, "a list of them for each of the 3 convolutions"),
        ({"front_ends": ["all"]}, "must be a list of whole numbers"),
        ({"heads": [-1, 2]}, "must be different numbers, 0 or more, in rising order"),
        ({"embed_dims": [0]}, "embed_dims .* must be different positive numbers"),
        ({"depth_map": {"1": [1], "2": [1, 2]}}, "an architecture would have two forms"),
    ],
)
def test_bad_choices_are_refused(changes, message):
    with pytest.raises(SpaceError, match=message):
        space_from_dict({**FIELDS, **changes})


def test_a_front_end_that_is_not_in_the_space_is_named():
    with pytest.raises(SpaceError, match=r"front_end=4 is not in space 'elastic'; allowed: 8, \[8, 16, 16\], whole"):
        SPACE.check(Subnet(64, (2, 2), (2.0, 2.0), (4, 4, 4)))
