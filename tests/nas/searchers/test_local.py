from __future__ import annotations

import numpy as np

from nas import Objective
from nas.searchers.local import LocalSearcher
from nas.testing.worlds import evaluation, tiny_space
from search_spaces import Feasible, Subnet

SPACE = tiny_space()
START = Subnet(128, (2, 6), (1.5, 3.5))


def climber(objective=None):
    return LocalSearcher(Feasible(SPACE), objective or Objective(), np.random.default_rng(0), 64)


def test_neighbours_are_steps_of_shape_then_of_layers_then_exchanges():
    made = climber()
    made.take(START)
    made.tell([evaluation(0, START)])
    shapes, steps, exchanges = set(made.ask(2)), set(made.ask(4)), set(made.ask(4))
    (deeper,) = (subnet for subnet in shapes if subnet.depth == 3)
    assert (deeper.heads[::2], deeper.ffn_ratios[::2]) == ((2, 6), (1.5, 3.5)), "layers 1 and 3 are those of depth 2"
    assert shapes == {deeper, Subnet(192, (2, 6), (1.5, 3.5))}
    assert steps == {
        Subnet(128, (4, 6), (1.5, 3.5)),
        Subnet(128, (2, 4), (1.5, 3.5)),
        Subnet(128, (2, 6), (3.5, 3.5)),
        Subnet(128, (2, 6), (1.5, 1.5)),
    }
    assert exchanges == {
        Subnet(128, (4, 4), (1.5, 3.5)),
        Subnet(128, (2, 6), (3.5, 1.5)),
        Subnet(128, (4, 6), (1.5, 1.5)),
        Subnet(128, (2, 4), (3.5, 3.5)),
    }


def test_a_climb_goes_to_the_better_neighbour_and_restarts_at_the_top():
    made = climber()
    made.take(START)
    made.tell([evaluation(0, START, 0.5)])
    up = made.ask(1)[0]
    made.tell([evaluation(1, up, 0.9)])
    assert made._members() == [up]
    index = 2
    while made._start == 0:
        asked = made.ask(4)
        made.tell([evaluation(index + i, subnet, 0.1) for i, subnet in enumerate(asked)])
        index += len(asked)
    assert made._steps(4)[0] not in {START, up}
    assert made._members() == [made.told[made._start].subnet], "of equals the first; what came before is forgotten"


def test_a_front_search_steps_from_all_that_nothing_beats():
    made = climber(Objective(cost="params"))
    a, b, c = Feasible(SPACE).sample(np.random.default_rng(1), 3)
    made.tell([evaluation(0, a, 0.5, params=1), evaluation(1, b, 0.9, params=2), evaluation(2, c, 0.8, params=3)])
    assert made._members() == [a, b]
