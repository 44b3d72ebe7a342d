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


class Successive:
    name, higher_is_better, settings, held_out = "s", True, {}, None

    def __call__(self, subnets):
        return [0.0] * len(subnets)

    def against(self, subnets, best, score):
        return [(0.0, False)] * len(subnets)


def test_scores_of_users():
    for protocol in (Score, SuccessiveScore, HeldOutScore):
        assert isinstance(Successive(), protocol)


class Predicted:
    table = params(SPACE).table

    def of(self, subnet):
        return self.table.of(subnet)

    def verify(self, subnet, limit):
        return {"keeps": True}


def test_predicted_costs_of_users():
    assert isinstance(Predicted(), PredictedCost)
    assert not isinstance(params(SPACE).table, PredictedCost)
    assert isinstance(params(SPACE).table, AdditiveCost)
