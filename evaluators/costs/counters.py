"""Other people's counters on the extracted module, beside ours, each with what it did not count."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from supernet.layers import Hubert

__all__ = ["Count", "counters", "fvcore_count"]


@dataclass(frozen=True)
class Count:
    """The result of one counter; None for a quantity that it does not count, or if it is not installed."""

    counter: str
    params: int | None
    macs: int | None
    unseen: str


def counters(net: Hubert, seconds: float = 1.0) -> list[Count]:
    """torch's FlopCounterMode (attention as plain matmuls), fvcore and thop on `net`, for `seconds` of audio."""
    wav = torch.zeros(1, round(seconds * 16_000))
    own = sum(parameter.numel() for parameter in net.parameters())
    return [Count("torch FlopCounterMode", own, closed_macs(net, seconds), "—"), _fvcore(net, wav), _thop(net, wav)]


def closed_macs(net: nn.Module, seconds: float) -> int:
    """Multiply-adds by torch's own counter, attention forced through matmuls that it can see."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, round(seconds * 16_000)))
    return int(counter.get_total_flops()) // 2


def _fvcore(net: Hubert, wav: torch.Tensor) -> Count:
    if find_spec("fvcore") is None:
        return Count("fvcore", None, None, "not installed: pip install 'lighthubert-nas[counters]'")
    return fvcore_count(net, wav)


def fvcore_count(net: Hubert, wav: torch.Tensor) -> Count:
    """The count of fvcore, which must be installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis, parameter_count

        logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
        analysis = (
            FlopCountAnalysis(_LastState(net), wav).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        )
        total = int(analysis.total())
        unseen = sorted(name.removeprefix("aten::") for name in analysis.unsupported_ops())
    return Count("fvcore", int(parameter_count(net)[""]), total, f"{', '.join(unseen)} (but counts norms)")


def _thop(net: Hubert, wav: torch.Tensor) -> Count:
    if find_spec("thop") is None:
        return Count("thop", None, None, "not installed: pip install 'lighthubert-nas[counters]'")
    import copy

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from thop import profile

        macs, counted = profile(_LastState(copy.deepcopy(net)), inputs=(wav,), verbose=False)
    return Count("thop", int(counted), int(macs), "attention products, GroupNorm (but counts LayerNorm)")


class _LastState(nn.Module):
    """A module whose output is one tensor, for counters that trace."""

    def __init__(self, net: Hubert) -> None:
        super().__init__()
        self.net = net

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        return self.net(wav).last_hidden_state  # type: ignore[no-any-return]
