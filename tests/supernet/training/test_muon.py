import pytest
import torch

from supernet.training.muon import Muon, orthogonal


def weights(seed: int = 0):
    torch.manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in ((6, 4), (4, 6), (5,), (6, 4))]


def optimiser_of(parameters):
    vector = [p for p in parameters if p.ndim == 1]
    rest = torch.optim.AdamW(vector, lr=0.1, weight_decay=0.0)
    return Muon([p for p in parameters if p.ndim == 2], rest, lr=0.1, weight_decay=0.05)


def moved(parameters, optimiser, steps):
    for i in range(steps):
        torch.manual_seed(i)
        optimiser.zero_grad()
        sum((torch.randn_like(p) * p).sum() + p.square().sum() for p in parameters).backward()
        optimiser.step()
    return [p.detach().clone() for p in parameters]


@pytest.mark.parametrize("shape", [(3, 6, 4), (2, 4, 6), (1, 5, 5)])
def test_singular_values_are_near_one_and_singular_vectors_stay(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ orthogonal(matrices) @ v.mT
    values = torch.diagonal(inner, dim1=1, dim2=2)
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.3
    assert torch.allclose(inner, torch.diag_embed(values), atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_it_moves_as_torch_does():
    """torch iterates in bfloat16."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch has Muon since 2.9")
    ours, theirs = weights(), weights()
    moved(ours, optimiser_of(ours), 3)
    matrices = [p for p in theirs if p.ndim == 2]
    muon = torch.optim.Muon(matrices, lr=0.1, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([p for p in theirs if p.ndim == 1], lr=0.1, weight_decay=0.0)

    class Both:
        def zero_grad(self):
            muon.zero_grad()
            adamw.zero_grad()

        def step(self):
            muon.step()
            adamw.step()

    moved(theirs, Both(), 3)
    for own, other, start in zip(ours, theirs, weights(), strict=True):
        assert float((own - other).norm() / (other - start).norm()) < 0.03


def test_it_goes_on_from_its_state():
    whole = weights()
    expected = moved(whole, optimiser_of(whole), 2)
    first = weights()
    before = optimiser_of(first)
    moved(first, before, 1)
    second = [torch.nn.Parameter(p.detach().clone()) for p in first]
    after = optimiser_of(second)
    after.load_state_dict(before.state_dict())
    torch.manual_seed(1)
    after.zero_grad()
    sum((torch.randn_like(p) * p).sum() + p.square().sum() for p in second).backward()
    after.step()
    assert all(torch.equal(a, b) for a, b in zip(second, expected, strict=True))


def test_the_rate_of_the_schedule_reaches_both():
    parameters = weights()
    optimiser = optimiser_of(parameters)
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in parameters]
    assert all(torch.equal(a, b) for a, b in zip(moved(parameters, optimiser, 1), before, strict=True))
