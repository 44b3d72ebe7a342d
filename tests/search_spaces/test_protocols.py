"""The protocols fit the costs and scores that ship."""

from evaluators import scores
from evaluators.costs import params
from search_spaces import AdditiveCost, Cost, HeldOutScore, PredictedCost, Score, SuccessiveScore, get_space

SPACE = get_space("hubert-tiny")


def test_costs():
    cost = params(SPACE)
    assert isinstance(cost, Cost)
    assert isinstance(cost, AdditiveCost)
    assert not isinstance(cost, PredictedCost)
    assert not isinstance(len, Cost)


def test_scores():
    score = scores.synthetic(SPACE)
    assert isinstance(score, Score)
    assert not isinstance(score, SuccessiveScore)
    assert not isinstance(score, HeldOutScore)
    assert not isinstance(lambda subnets: [0.0], Score)
