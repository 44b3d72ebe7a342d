"""The heads."""

import torch

from evaluators.tasks.heads import CtcHead, UtteranceHead, WeightedSum, layer_weights


def test_a_weighted_sum_begins_with_the_mean_of_the_layers():
    states = torch.randn(3, 2, 5, 4)
    assert torch.allclose(WeightedSum(3)(states), states.mean(0), atol=1e-6)
    assert layer_weights(UtteranceHead(4, 3, 2)) == [0.25] * 4


def test_padding_does_not_change_what_the_blstm_hears():
    torch.manual_seed(0)
    head = CtcHead(3, 4, 5, hidden=6).eval()
    torch.nn.init.normal_(head.linear.weight)
    states = torch.randn(3, 2, 7, 4)
    together = head(states, torch.tensor([7, 4]))
    alone = head(states[:, 1:, :4], torch.tensor([4]))
    assert torch.allclose(together[1, :4], alone[0], atol=1e-6)
    assert torch.allclose(together.exp().sum(-1), torch.ones(2, 7), atol=1e-5)
