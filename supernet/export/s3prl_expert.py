"""The upstream in an s3prl export. It needs torch and the files beside it, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from supernet.layers import Hubert

__all__ = ["UpstreamExpert"]


class UpstreamExpert(nn.Module):
    """One subnet as an upstream of s3prl: waveforms at 16 kHz in, hidden states out.

    `ckpt`: a `subnet.pt`; default: the one beside this file. Other arguments of s3prl's runner have no effect.
    """

    def __init__(self, ckpt: str | None = None, model_config: str | None = None, **ignored: object) -> None:
        super().__init__()
        file = Path(ckpt) if ckpt else Path(__file__).with_name("subnet.pt")
        content = torch.load(file, map_location="cpu", weights_only=True)
        network, subnet = SimpleNamespace(**content["network"]), SimpleNamespace(**content["subnet"])
        self.hop, self.normalize, self.eps = content["hop"], content["normalize"], content["eps"]
        self.model = Hubert(network, subnet, content["frame_rule"])  # type: ignore[arg-type]
        self.model.load_state_dict(content["model"], strict=True)

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples per frame, for every key."""
        return int(self.hop)

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, list[Tensor] | Tensor]:
        """`hidden_states` of wavs (S,) of any lengths: the projected input, then one per layer, each (B, T, D)."""
        lengths = torch.tensor([len(wav) for wav in wavs], device=wavs[0].device)
        prepared = [F.layer_norm(wav, wav.shape, eps=self.eps) if self.normalize else wav for wav in wavs]
        padded = pad_sequence(prepared, batch_first=True)
        hidden = list(self.model(padded, lengths).hidden_states)
        return {"hidden_states": hidden, "last_hidden_state": hidden[-1]}
