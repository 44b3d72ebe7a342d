"""Muon: matrices move by their momentum with all singular values made about 1; what is no matrix moves by AdamW.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon), scaled as Liu et al. 2025 (arXiv 2502.16982, equation 4), so
that rates and decay are those of AdamW. torch.optim.Muon iterates in bfloat16, which takes half a minute a step on a
CPU that emulates it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Muon", "orthogonal"]

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of a quintic that takes (0, 1] near 1 in few steps
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Moves `matrices`; `rest` moves all other weights, at the same learning rate."""

    def __init__(
        self,
        matrices: Iterable[Tensor],
        rest: torch.optim.AdamW,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(list(matrices), {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.rest = rest

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update. Matrices of one shape are iterated on together."""
        assert closure is None
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes.setdefault(weight.shape, []).append(weight)
            for weights in shapes.values():
                self._move(weights, group)
        for own in self.rest.param_groups:
            own["lr"] = self.param_groups[0]["lr"]
        self.rest.step()

    def _move(self, weights: Sequence[Tensor], group: dict[str, Any]) -> None:
        directions = []
        for weight in weights:
            assert weight.grad is not None
            momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
            momentum.lerp_(weight.grad, 1 - group["momentum"])
            directions.append(weight.grad.lerp(momentum, group["momentum"]))  # Nesterov's
        size = 0.2 * max(weights[0].shape) ** 0.5  # the root mean square that AdamW's updates have
        for weight, direction in zip(weights, orthogonal(torch.stack(directions)), strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(direction.to(weight.dtype), alpha=-group["lr"] * size)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        self.rest.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"matrices": super().state_dict(), "rest": self.rest.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["matrices"])
        self.rest.load_state_dict(state_dict["rest"])


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, A, B): each with its singular values brought near 1 (0.7 to 1.2), by a Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    x = matrices.to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
