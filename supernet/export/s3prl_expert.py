"""The upstream that an s3prl export brings along; it needs torch and the files beside it, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from supernet.layers import Hubert

__all__ = ["UpstreamExpert"]


class UpstreamExpert(nn.Module):
    """One subnet as an upstream of s3prl: waveforms at 16 kHz in, hidden states out.

    `ckpt`: `subnet.pt`, the one beside this file where not given. What else s3prl's runner passes is not needed.
    """

    def __init__(self, ckpt: str | None = None, model_config: str | None = None, **ignored: Any) -> None:
        super().__init__()
        file = Path(ckpt) if ckpt else Path(__file__).with_name("subnet.pt")
        content = torch.load(file, map_location="cpu", weights_only=True)
        network, subnet = SimpleNamespace(**content["network"]), SimpleNamespace(**content["subnet"])
        self.hop = content["hop"]
        self.model = Hubert(network, subnet, content["frame_rule"])  # type: ignore[arg-type]
        self.model.load_state_dict(content["model"], strict=True)

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples a frame, for every key."""
        return int(self.hop)

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Any]:
        """`hidden_states` of wavs (S,) of any lengths: the projected input, then one a layer, each (B, T, D)."""
        lengths = torch.tensor([len(wav) for wav in wavs], device=wavs[0].device)
        padded = pad_sequence([F.layer_norm(wav, wav.shape) for wav in wavs], batch_first=True)
        hidden = list(self.model(padded, lengths).hidden_states)
        return {"hidden_states": hidden, "last_hidden_state": hidden[-1]}
